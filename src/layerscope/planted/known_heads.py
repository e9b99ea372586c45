"""A one-block GPT-2 whose four heads attend where they were told to: evenly, or to a single key."""

from __future__ import annotations

import torch
import transformers as hf
from torch import Tensor

POSITIONS = 64
HEADS = ("even", "previous", "self", "sink")
"""To all visible keys alike; to the key before the query; to the query's own; to the first."""
SHARP = 40.0
"""By how much the score of the wanted key exceeds that of any other: exp(-40) goes elsewhere."""


def known_heads() -> hf.GPT2LMHeadModel:
    """The model, of any token ids below 8; positions alone decide. The random state is left alone.

    Every position is a direction of its own, which the norm before the attention only scales. Query
    0 has no key before it, and attends to itself, the only one that it sees.
    """
    config = hf.GPT2Config(
        n_layer=1,
        n_head=len(HEADS),
        n_embd=len(HEADS) * POSITIONS,
        vocab_size=8,
        n_positions=POSITIONS,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        model = hf.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float("ln" in name and name.endswith("weight")))
        model.transformer.wpe.weight[:, :POSITIONS] = 8 * torch.eye(POSITIONS)
        _write_heads(model)
    return model


def _write_heads(model: hf.GPT2LMHeadModel) -> None:
    """Queries and keys ``[positions, positions]`` of each head, as columns of one matrix."""
    block = model.transformer.h[0]
    normed = block.ln_1(model.transformer.wpe.weight)[:, :POSITIONS]
    # Of the normed position p, entry p is `high` and all others are `low`: a difference of one.
    high, low = float(normed[0, 0]), float(normed[0, 1])
    size = POSITIONS**0.5 * SHARP / (high - low) ** 2
    eye = torch.eye(POSITIONS)
    wanted = {
        "previous": torch.diag(torch.ones(POSITIONS - 1), 1),
        "self": eye,
        "sink": torch.zeros(POSITIONS, POSITIONS),
    }
    weight, bias = block.attn.c_attn.weight, block.attn.c_attn.bias
    width = weight.shape[0]
    for head, name in enumerate(HEADS):
        if name == "even":
            continue
        columns = slice(head * POSITIONS, (head + 1) * POSITIONS)
        keys = slice(width + columns.start, width + columns.stop)
        weight[:POSITIONS, columns] = size * eye
        weight[:POSITIONS, keys] = wanted[name]
        if name == "sink":
            # The same query at every position, and a key that only the first has.
            weight[:POSITIONS, columns] = 0
            bias[columns.start] = size * (high - low)
            weight[0, keys.start] = 1


def attention(name: str) -> Tensor:
    """``[positions, positions]`` what a head attends to."""
    if name == "even":
        causal = torch.ones(POSITIONS, POSITIONS).tril()
        return causal / causal.sum(1, keepdim=True)
    if name == "self":
        return torch.eye(POSITIONS)
    first = torch.zeros(POSITIONS, POSITIONS)
    first[:, 0] = 1
    if name == "sink":
        return first
    before = torch.diag(torch.ones(POSITIONS - 1), -1)
    before[0, 0] = 1
    return before
