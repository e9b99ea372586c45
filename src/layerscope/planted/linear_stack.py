"""A decoder whose sublayers are chosen matrices: states, cosines and skip effects are then algebra.

A stock Llama without training. Its norms do nothing (an epsilon so large that the division is a
constant, which the norm's gain takes back), its attention looks at all tokens alike, and the gates
of its MLPs hang on a coordinate that every embedding shares. So with hidden state h,

    h <- h + A_l (mean of h over this token and all before it),   then   h <- h + M_l h.

In a prompt that repeats one token all means are h itself, and the whole model is a product of
matrices. The logits are the hidden state. The norm computes in float32, whatever the model: states are
right to about 1e-7 of their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

GATE = 1e-6
"""The shared last coordinate of every embedding: seen by the gates, too small to be seen in cosines."""
_EPSILON = 1e16


def linear_stack(
    embeddings: Any,
    *,
    attention: Sequence[Any | None] = (),
    mlp: Sequence[Any | None] = (),
) -> nn.Module:
    """The decoder, in double precision and eval mode; the global random state is left alone.

    Args:
        embeddings: ``[vocabulary, width - 1]`` state of each token (the gate coordinate is added).
        attention: For each block the matrix ``[width - 1, width - 1]`` that attention applies; None
            or missing for none.
        mlp: The same for the MLP. The longer of the two gives the number of blocks.
    """
    table = torch.as_tensor(embeddings, dtype=torch.float64)
    blocks = max(len(attention), len(mlp))
    vocabulary, width = table.shape[0], table.shape[1] + 1
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=1,
        head_dim=width + width % 2,  # rotary embedding halves it
        max_position_embeddings=256,
        rms_norm_eps=_EPSILON,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = LlamaForCausalLM(config).double().eval()
    _fill(model, table, [*attention, *[None] * blocks], [*mlp, *[None] * blocks])
    return model


def final_states(
    embeddings: Any, attention: Sequence[Any | None], mlp: Sequence[Any | None]
) -> list[Tensor]:
    """What the stream of a repeated token is: the input of block 0, then the output of each block.

    Each is ``[vocabulary, width - 1]``, by plain matrix products.
    """
    states = [torch.as_tensor(embeddings, dtype=torch.float64)]
    for i in range(max(len(attention), len(mlp))):
        x = states[-1]
        for matrices in (attention, mlp):
            matrix = matrices[i] if i < len(matrices) else None
            if matrix is not None:
                x = x + x @ torch.as_tensor(matrix, dtype=torch.float64).T
        states.append(x)
    return states


def _fill(
    model: Any, table: Tensor, attention: Sequence[Any | None], mlp: Sequence[Any | None]
) -> None:
    size = table.shape[1]
    # Rotary tables and the norm's own arithmetic are in float32, but with nothing to round here:
    # queries are zero, and the norm multiplies by a constant.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight[:, :size] = table
        model.model.embed_tokens.weight[:, size] = GATE
        model.lm_head.weight.copy_(torch.eye(len(table), size + 1))
        for name, module in model.named_modules():
            if name.endswith("norm"):
                module.weight.fill_(_EPSILON**0.5)
        for block, first, second in zip(model.model.layers, attention, mlp, strict=False):
            if first is not None:
                block.self_attn.v_proj.weight[:size, :size] = torch.eye(size)
                block.self_attn.o_proj.weight[:size, :size] = torch.as_tensor(first)
            if second is not None:
                block.mlp.gate_proj.weight[:, size] = 4 / GATE
                block.mlp.up_proj.weight[:size, :size] = torch.eye(size)
                gain = nn.functional.silu(torch.tensor(4.0, dtype=torch.float64))
                block.mlp.down_proj.weight[:size, :size] = torch.as_tensor(second) / gain
