"""Programs run blocks in any order, and share what they begin with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.replay import record
from layerscope.planted import families

REORDERABLE = ["llama", "gpt2", "gpt_neox", "gptj", "gemma2", "mixtral", "mistral", "bloom", "opt"]
EXACT = 2e-6


@contextmanager
def rebuilt(model: nn.Module, program: Sequence[int]) -> Iterator[None]:
    """The stack of blocks really replaced by another list: the second way."""
    path = anatomy(model).blocks[0].path.rpartition(".")[0]
    parent, name = model.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2]
    stack, count = getattr(parent, name), model.config.num_hidden_layers
    blocks = list(stack)
    setattr(parent, name, nn.ModuleList([blocks[i] for i in program]))
    model.config.num_hidden_layers = len(program)
    try:
        yield
    finally:
        setattr(parent, name, stack)
        model.config.num_hidden_layers = count


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("name", REORDERABLE)
def test_the_models_own_order_gives_the_same_bits(name: str) -> None:
    model, ids = families.build(name), families.batch(name)["input_ids"]
    run = record(model, ids)
    out = run.program([0, 1, 2])
    assert torch.equal(out.logits, logits(model, ids))
    assert out.noise < EXACT  # the record was made with a cache
    assert out.evaluations == 3 * 2


@pytest.mark.parametrize("program", [[0], [2, 1, 0], [0, 1, 1, 2], [0, 0, 0, 1, 2, 2], []])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "mixtral"])
def test_programs_equal_a_rebuilt_model(name: str, program: list[int]) -> None:
    model, ids = families.build(name), families.batch(name)["input_ids"]
    out = record(model, ids).program(program)
    with rebuilt(model, program):
        expected = logits(model, ids)
    assert (out.logits - expected).abs().max() < EXACT


def test_a_block_of_another_type_keeps_its_own_mask() -> None:
    # In gemma3 some blocks slide their window: moved, they must still see their own mask.
    model, ids = families.build("gemma3"), families.batch("gemma3")["input_ids"]
    run = record(model, ids)
    out = run.program([1, 0, 2])

    def play(stage):  # type: ignore[no-untyped-def]
        stream = stage.stream
        for index in (1, 0, 2):
            stream = stage.block(index, stream)
        return stream

    assert torch.equal(out.logits, run.perform(play))


def test_what_programs_begin_with_alike_is_run_once() -> None:
    model, ids = families.build("llama"), families.batch("llama")["input_ids"]
    run = record(model, ids)
    programs = [[0, 1, 2], [0, 1, 1, 2], [0, 1, 1], [0, 2], [0, 1, 1, 2]]
    out = run.programs(programs)
    # Prefixes: 0; 01 02; 012 011; 0112.
    assert out.evaluations == 6 * len(run)
    assert len(out) == len(programs) * len(run)
    for number, program in enumerate(programs):
        alone = run.program(program)
        assert (out.logits[out.what_if == number] - alone.logits).abs().max() < EXACT


@pytest.mark.parametrize("program", [[0, 1, 2], [0, 1, 1, 2], [0, 2], [1, 0, 2, 2]])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mistral", "gptj"])
def test_each_visit_has_its_own_keys_when_tokens_are_generated(
    name: str, program: list[int]
) -> None:
    model, ids = families.build(name), families.batch(name)["input_ids"]
    model.generation_config.eos_token_id = None
    out = record(model, ids).program(program, generate=5)
    for _ in range(5):
        following = record(model, ids).program(program).logits[:, -1].argmax(-1)
        ids = torch.cat([ids, following[:, None]], 1)
    assert torch.equal(out.generated, ids[:, -5:])


def test_what_cannot_be_run_is_said() -> None:
    model, ids = families.build("llama"), families.batch("llama")["input_ids"]
    run = record(model, ids)
    with pytest.raises(IndexError, match=r"block 3 in program \[0, 3\]: .* has blocks 0 to 2"):
        run.program([0, 3])
    with pytest.raises(ValueError, match="no program was given"):
        run.programs([])
    rwkv = families.build("rwkv")
    with pytest.raises(RuntimeError, match="cannot be run one by one"):
        record(rwkv, families.batch("rwkv")).program([0, 1])
    mamba = families.build("mamba")
    with pytest.raises(RuntimeError, match="keeps no keys and values"):
        record(mamba, families.batch("mamba")).program([0, 1], generate=2)
