"""Hand-set weights in a stock Llama: tables and copies whose effect can be written down.

Every embedding carries a large constant in one coordinate. RMSNorm then multiplies by a number that
hardly depends on the rest of the vector, and a gate that reads the constant is always open, so an
MLP becomes a linear table and uniform attention a copy.

Every sublayer also adds a constant to a coordinate that nothing reads: too small to change a norm
by one bit, and enough to tell a stream to which something was added from one to which it was not.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

BIAS = 30.0
"""The constant; the larger, the closer RMSNorm is to a fixed factor."""
OPEN = 4.0
"""What the gates see."""
TRACE = 2.0**-20
"""What the sublayers of block i add to the coordinate kept for their kind is i + 1 times this."""


def blank(n_blocks: int, width: int, vocab: int, neurons: int) -> hf.LlamaForCausalLM:
    """A Llama of one head whose blocks do nothing; the global random state is left alone.

    The last coordinate of every embedding is `BIAS`, the two before it are for the traces of
    attention and MLP. Everything else is zero, norms are one.
    """
    config = hf.LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=neurons,
        num_hidden_layers=n_blocks,
        num_attention_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        attention_bias=True,
        mlp_bias=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        model = hf.LlamaForCausalLM(config).eval()
    clear_(model)
    return model


@torch.no_grad()
def clear_(model: hf.LlamaForCausalLM) -> None:
    """Make every block do nothing, in place."""
    for name, parameter in model.named_parameters():
        parameter.fill_(float("norm" in name))
    model.get_input_embeddings().weight[:, -1] = BIAS
    for number, block in enumerate(model.model.layers, 1):
        block.self_attn.o_proj.bias[-3] = number * TRACE
        block.mlp.down_proj.bias[-2] = number * TRACE


def norm_factor(model: hf.LlamaForCausalLM, length2: float) -> float:
    """What RMSNorm multiplies a vector of squared length `length2` by."""
    width, epsilon = model.config.hidden_size, model.config.rms_norm_eps
    return float((length2 / width + epsilon) ** -0.5)


@torch.no_grad()
def write_table(
    mlp: Any, read: Tensor, write: Tensor, factor: float, first_neuron: int = 0
) -> None:
    """Make the MLP add ``write @ read.T @ x``, for x that its norm multiplies by `factor`.

    Args:
        read: `[width, m]`, one neuron for each column.
        write: `[width, m]`.
    """
    neurons = slice(first_neuron, first_neuron + read.shape[1])
    mlp.gate_proj.weight[neurons, -1] = OPEN / (BIAS * factor)
    mlp.up_proj.weight[neurons] = read.T
    opened = nn.functional.silu(torch.tensor(OPEN)).item()
    mlp.down_proj.weight[:, neurons] = write / (opened * factor)


@torch.no_grad()
def write_copy(attention: Any, read: Tensor, write: Tensor, gain: float) -> None:
    """Make attention look at all visible positions alike, and add ``gain * write @ read.T @ mean``.

    The mean is over the normed vectors of the visible positions.
    """
    m = read.shape[1]
    attention.v_proj.weight[:m] = read.T
    attention.o_proj.weight[:, :m] = gain * write
