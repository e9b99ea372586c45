"""The counter decoder counts, whatever program of blocks is run."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import pytest
import torch

from layerscope.hooks.anatomy import anatomy
from layerscope.planted.counter import Counter, counter


@torch.no_grad()
def run(planted: Counter, program: tuple[int, ...], start: int = 0) -> int:
    """The answer of a program, in plain Python."""
    inner: Any = planted.model.model
    x = inner.embed_tokens(planted.prompt(start))
    position = torch.arange(1)[None]
    rope = inner.rotary_emb(x, position)
    for index in program:
        block = inner.layers[index]
        x = block(x, position_embeddings=rope, attention_mask=None, position_ids=position)
    return int(planted.model.lm_head(inner.norm(x))[0, -1].argmax())


def test_it_is_a_stock_llama_that_anatomy_reads() -> None:
    found = anatomy(counter().model)
    assert found.passed
    assert [block.kind for block in found.blocks] == ["attn + mlp"] * 6


@pytest.mark.parametrize("start", range(7))
def test_the_full_pass_adds_five(start: int) -> None:
    planted = counter()
    with torch.no_grad():
        found = planted.model(input_ids=planted.prompt(start)).logits[0, -1].argmax()
    assert int(found) == (start + 5) % 7 == planted.result(range(6), start)


def test_every_short_program_adds_its_steps() -> None:
    planted = counter()
    for length in range(1, 4):
        for program in product(range(6), repeat=length):
            assert run(planted, program) == planted.result(program)
    long = (3, 1, 2, 5, 5, 0, 3, 2, 4, 3, 3, 3) * 4
    assert run(planted, long, start=4) == planted.result(long, start=4)


def test_what_skipping_alone_can_reach() -> None:
    planted = counter()
    shortest: dict[int, int] = {}
    for length in range(1, 7):
        for kept in combinations(range(6), length):
            shortest.setdefault(run(planted, kept), length)
    assert shortest == {0: 1, 1: 1, 3: 1, 2: 2, 4: 2, 5: 3}
    assert run(planted, (3, 3)) == 6


def test_a_poison_block() -> None:
    planted = counter(steps=(1, 2, 4, 32, 8, 16), modulus=64)
    target = planted.result([0, 1, 2, 4, 5])
    right = [
        kept
        for length in range(1, 7)
        for kept in combinations(range(6), length)
        if run(planted, kept) == target
    ]
    assert right == [(0, 1, 2, 4, 5)]


def test_a_counter_needs_blocks() -> None:
    with pytest.raises(ValueError, match="needs blocks and a modulus of 2 or more"):
        counter(())
    with pytest.raises(ValueError, match="got 1"):
        counter((1, 2), modulus=1)
