"""P2H does what its closed forms say, in all 512 settings, by plain forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import combinations_with_replacement, product
from typing import Any

import pytest
import torch
from torch import Tensor

from layerscope.hooks.anatomy import anatomy
from layerscope.planted.two_hop import ENTITIES, ENTITY, LAST, TwoHop, rewired, two_hop

BLOCKS = 8
PAIRS = [(s, t) for s, t in product(range(BLOCKS), repeat=2) if s > t]
SETTINGS = list(product(range(BLOCKS), repeat=3))
RESTORED = ((ENTITY,), (LAST,), (ENTITY, LAST))
Edit = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def base() -> TwoHop:
    return two_hop(1, 3, 5)


@pytest.fixture(scope="module")
def every(base: TwoHop) -> Callable[[], Iterator[TwoHop]]:
    """All 512 settings, one after the other, written over one model."""

    def settings() -> Iterator[TwoHop]:
        model = two_hop(0, 0, 0).model
        for setting in SETTINGS:
            yield rewired(model, *setting)

    return settings


@torch.no_grad()
def logits(planted: TwoHop, ids: Tensor, edits: dict[int, Edit] | None = None) -> Tensor:
    """Last-position logits [n, V], with the outputs of blocks edited by plain hooks.

    Index -1 edits what enters block 0.
    """
    layers: Any = planted.model.model.layers
    with ExitStack() as undo:
        for block, edit in (edits or {}).items():
            if block < 0:
                before = layers[0].register_forward_pre_hook(
                    lambda module, args, edit=edit: (edit(args[0]), *args[1:])
                )
                undo.callback(before.remove)
            else:
                after = layers[block].register_forward_hook(
                    lambda module, args, output, edit=edit: edit(output)
                )
                undo.callback(after.remove)
        found: Tensor = planted.model(input_ids=ids).logits[:, -1]
    return found


def residuals(planted: TwoHop, ids: Tensor) -> list[Tensor]:
    """Residual indices 0 to 8, each [n, 2, d]."""
    seen: list[Tensor] = []

    def look(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return x

    logits(planted, ids, dict.fromkeys(range(-1, BLOCKS), look))
    return seen


def put(at: slice | Tensor, position: int, value: Tensor) -> Edit:
    def edit(x: Tensor) -> Tensor:
        x = x.clone()
        x[at, position] = value
        return x

    return edit


def all_right(planted: TwoHop, found: Tensor) -> bool:
    """Whether all six entities, or none, are answered right; half a success is a broken model."""
    right = (found.argmax(-1) == planted.answers).tolist()
    assert len(set(right)) == 1
    return bool(right[0])


def back_patched(planted: TwoHop, position: int, source_of: Tensor) -> set[tuple[int, int]]:
    """Pairs that succeed; every pair and entity is a row of its own, all in one pass."""
    state = residuals(planted, planted.prompts)
    n = ENTITIES
    edits: dict[int, Edit] = {}
    for target in range(BLOCKS):
        sources = [(row, s) for row, (s, t) in enumerate(PAIRS) if t == target]
        if sources:
            rows = torch.cat([torch.arange(row * n, row * n + n) for row, _ in sources])
            value = torch.cat([state[s + 1][source_of, position] for _, s in sources])
            edits[target] = put(rows, position, value)
    found = logits(planted, planted.prompts.repeat(len(PAIRS), 1), edits)
    return {
        pair
        for pair, part in zip(PAIRS, found.view(len(PAIRS), n, -1), strict=True)
        if all_right(planted, part)
    }


def test_the_circuit_is_a_stock_llama_that_anatomy_reads(base: TwoHop) -> None:
    assert type(base.model).__module__ == "transformers.models.llama.modeling_llama"
    for setting in ((1, 3, 5), (3, 3, 3), (7, 0, 7), (0, 7, 7)):
        found = anatomy(two_hop(*setting).model)
        assert found.passed
        assert [block.kind for block in found.blocks] == ["attn + mlp"] * BLOCKS


def test_baseline_in_every_setting(every: Any) -> None:
    correct = {}
    for planted in every():
        right = all_right(planted, logits(planted, planted.prompts))
        assert right == planted.baseline_correct
        correct[planted.bridge, planted.copy, planted.answer] = right
    assert sum(correct.values()) == sum(b < p <= c for b, p, c in SETTINGS) == 84


def test_back_patching_in_every_setting(every: Any) -> None:
    for planted in every():
        own = torch.arange(ENTITIES)
        for position in (ENTITY, LAST):
            assert back_patched(planted, position, own) == planted.back_patch(position)


def test_the_table_of_known_settings() -> None:
    pairs = set(PAIRS)
    table = {
        (1, 3, 5): (pairs, pairs),
        (4, 2, 6): ({(s, t) for s in (4, 5, 6, 7) for t in (0, 1)}, set()),
        (1, 5, 3): (set(), {(s, t) for s in (5, 6, 7) for t in (0, 1, 2)}),
        (5, 4, 2): (set(), set()),
    }
    for setting, (entity, last) in table.items():
        planted = two_hop(*setting)
        assert planted.back_patch(ENTITY) == entity
        assert planted.back_patch(LAST) == last


def test_states_of_another_entity_never_succeed(every: Any) -> None:
    for number, planted in enumerate(every()):
        if planted.baseline_correct or number % 4:
            continue
        for position in (ENTITY, LAST):
            assert back_patched(planted, position, torch.arange(1, ENTITIES + 1) % 6) == set()


def test_skipping_any_block_in_every_setting(every: Any) -> None:
    for planted in every():
        layers = list(planted.model.model.layers)
        state = planted.model.model.embed_tokens(planted.prompts)
        for block in range(BLOCKS):
            found = run(planted, layers[block + 1 :], state)
            state = through(planted, layers[block : block + 1], state)
            assert all_right(planted, found) == planted.skip_correct(block)


def test_programs(base: TwoHop) -> None:
    generator = torch.Generator().manual_seed(0)
    outcomes = []
    for setting in ((1, 3, 5), (4, 2, 6), (3, 3, 5), (2, 5, 5), (4, 4, 4)):
        planted = two_hop(*setting)
        layers: Any = planted.model.model.layers
        for _ in range(60):
            program = torch.randint(0, BLOCKS, (12,), generator=generator).tolist()
            right = all_right(planted, run(planted, [layers[i] for i in program]))
            assert right == planted.program_correct(program)
            outcomes.append(right)
    assert 0.1 < sum(outcomes) / len(outcomes) < 0.9


@torch.no_grad()
def through(planted: TwoHop, blocks: list[Any], x: Tensor, masks: Any = None) -> Tensor:
    """The stream after these blocks, one after the other, in plain Python."""
    position = torch.arange(2)[None]
    rope = planted.model.model.rotary_emb(x, position)
    for block, mask in zip(blocks, masks or [None] * len(blocks), strict=True):
        x = block(x, position_embeddings=rope, attention_mask=mask, position_ids=position)
    return x


@torch.no_grad()
def run(planted: TwoHop, blocks: list[Any], x: Tensor | None = None, masks: Any = None) -> Tensor:
    """Last-position logits of the model with other blocks."""
    inner: Any = planted.model.model
    x = inner.embed_tokens(planted.prompts) if x is None else x
    found: Tensor = planted.model.lm_head(inner.norm(through(planted, blocks, x, masks)))[:, -1]
    return found


def test_blocks_without_a_part_in_the_circuit_change_no_bit(base: TwoHop) -> None:
    layers: Any = base.model.model.layers
    whole = run(base, list(layers))
    assert torch.equal(whole, logits(base, base.prompts))
    for idle in (0, 2, 4, 6, 7):
        assert torch.equal(run(base, [x for i, x in enumerate(layers) if i != idle]), whole)


def test_knock_out_matters_when_the_window_holds_the_copy(every: Any) -> None:
    for planted in every():
        if not planted.baseline_correct:
            assert not planted.knock_out_matters((0, BLOCKS))
            assert not all_right(planted, blinded(planted, range(BLOCKS)))
            continue
        clean = logits(planted, planted.prompts)
        pairs = combinations_with_replacement(range(BLOCKS), 2)
        known = (planted.bridge, planted.copy, planted.answer) == (1, 3, 5)
        for first, last in pairs if known else ((i, i) for i in range(BLOCKS)):
            changed = blinded(planted, range(first, last + 1))
            matters = planted.knock_out_matters((first, last + 1))
            assert all_right(planted, changed) != matters
            assert torch.equal(changed, clean) != matters


def blinded(planted: TwoHop, blocks: Iterable[int]) -> Tensor:
    """In these blocks the last position sees only itself: a mask given to plain blocks."""
    low = torch.finfo(torch.float32).min
    alone = torch.tensor([[0.0, low], [low, 0.0]])[None, None]
    masks = [alone if i in blocks else None for i in range(BLOCKS)]
    return run(planted, list(planted.model.model.layers), masks=masks)


def test_erasing_the_entity_matters_up_to_the_copy(every: Any) -> None:
    for planted in every():
        if not planted.baseline_correct:
            continue
        clean = logits(planted, planted.prompts)
        erased = [
            logits(planted, planted.prompts, {i - 1: put(slice(None), ENTITY, torch.zeros(()))})
            for i in range(BLOCKS + 1)
        ]
        for i, found in enumerate(erased):
            matters = planted.erasure_matters(i)
            assert torch.equal(found, clean) != matters
            assert torch.equal(found, erased[0]) == matters


def test_the_lens_switches_after_the_answer(every: Any) -> None:
    for planted in every():
        norm, head = planted.model.model.norm, planted.model.lm_head
        for i, state in enumerate(residuals(planted, planted.prompts)):
            with torch.no_grad():
                found = head(norm(state[:, LAST]))
            assert all_right(planted, found) == planted.lens_correct(i)


def test_restoring_the_clean_state_restores_all_or_nothing(every: Any) -> None:
    for planted in every():
        if not planted.baseline_correct:
            continue
        clean, other = planted.prompts, planted.prompts.roll(1, 0)
        whole, corrupt = logits(planted, clean), logits(planted, other)
        for i, state in enumerate(residuals(planted, clean)):
            found = logits(planted, other.repeat(3, 1), {i - 1: restore(state)}).view(3, 6, -1)
            for positions, rows in zip(RESTORED, found, strict=True):
                right = whole if planted.restored(i, positions) else corrupt
                assert torch.equal(rows, right)


def restore(state: Tensor) -> Edit:
    """The first six rows get the clean entity, the next six the last position, the rest both."""

    def edit(x: Tensor) -> Tensor:
        x = x.clone().view(3, *state.shape)
        for part, positions in zip(x, RESTORED, strict=True):
            part[:, list(positions)] = state[:, list(positions)]
        return x.view(-1, *state.shape[1:])

    return edit


def test_blocks_outside_the_model_are_refused() -> None:
    with pytest.raises(ValueError, match="block 8 is outside the model's 8 blocks"):
        two_hop(1, 8, 3)
