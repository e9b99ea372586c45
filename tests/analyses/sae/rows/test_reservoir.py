"""The swap reservoir: nothing is lost, everything is mixed, and it goes on bit by bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.rows.mixing import effective_groups
from layerscope.analyses.sae.rows.reservoir import Reservoir


def stream(first: int, size: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Rows `first` on: row i holds i, at two sites; texts of 16 rows."""
    numbers = torch.arange(first, first + size)
    return [numbers[:, None].float(), 2 * numbers[:, None].expand(-1, 3).float()], numbers // 16


def full(slots: int = 200, seed: int = 0) -> Reservoir:
    reservoir = Reservoir(slots, (1, 3), [torch.float32] * 2, seed=seed)
    assert reservoir.fill(*stream(0, slots + 30)) == slots
    return reservoir


def test_what_goes_in_comes_out_once_or_is_still_there() -> None:
    reservoir, out = full(), []
    for step in range(50):
        (a, b), texts = reservoir.swap(*stream(200 + 32 * step, 32))
        assert torch.equal(2 * a[:, 0], b[:, 2])
        assert torch.equal((a[:, 0] // 16).long(), texts)
        out += a[:, 0].tolist()
    assert sorted(out + reservoir.rows[0][:, 0].tolist()) == list(range(200 + 32 * 50))


@pytest.mark.parametrize(("slots", "size"), [(200, 1), (200, 150), (200, 200), (20_000, 64)])
def test_slots_of_a_draw_are_different(slots: int, size: int) -> None:
    reservoir = full(slots)
    for _ in range(5):
        (a, _), _ = reservoir.swap(*stream(0, size))
        assert len(a) == size
    fresh = full(slots)
    (a, _), _ = fresh.swap(*stream(slots, size))
    assert len(set(a[:, 0].tolist())) == size


def test_rows_stay_for_slots_over_batch_draws() -> None:
    """Residence is geometric: mean B / N, and a share of (1 - N/B)^t is there after t draws."""
    reservoir = full(2000)
    for step in range(40):
        reservoir.swap(*stream(2000 + 100 * step, 100))
    old = (reservoir.rows[0][:, 0] < 2000).float().mean().item()
    assert old == pytest.approx(0.95**40, abs=0.02)


def test_restored_it_goes_on_bit_by_bit() -> None:
    one, other = full(seed=3), Reservoir(200, (1, 3), [torch.float32] * 2, seed=3)
    one.swap(*stream(200, 32))
    state = one.state()
    copies = {name: tensor.clone() for name, tensor in state.items()}
    one.swap(*stream(232, 32))
    assert all(torch.equal(state[name], copies[name]) for name in state), "a state is a copy"
    other.restore(state)
    other.swap(*stream(232, 32))
    for step in range(5):
        (a, b), texts = one.swap(*stream(264 + 32 * step, 32))
        (c, d), same = other.swap(*stream(264 + 32 * step, 32))
        assert torch.equal(a, c)
        assert torch.equal(b, d)
        assert torch.equal(texts, same)


def test_what_does_not_fit_is_refused() -> None:
    state = full().state()
    with pytest.raises(
        ValueError, match=r"\[\[200, 1\], \[200, 3\]\] with seed 0, this one is \[\[99"
    ):
        Reservoir(99, (1, 3), [torch.float32] * 2, seed=0).restore(state)
    with pytest.raises(ValueError, match="with seed 1"):
        Reservoir(200, (1, 3), [torch.float32] * 2, seed=1).restore(state)
    with pytest.raises(ValueError, match="201 rows from 200 slots"):
        full().swap(*stream(0, 201))
    half = Reservoir(200, (1, 3), [torch.float32] * 2, seed=0)
    half.fill(*stream(0, 10))
    with pytest.raises(ValueError, match="of which 10 are filled"):
        half.swap(*stream(0, 5))


# Mixing, at the sizes at which other libraries' pipelines were measured: batches of 4,096 rows,
# texts of 512. Rows are their text's number alone, so the sizes cost little.

CONTEXT, BATCH = 512, 4096


def texts(first: int, rows: int) -> np.ndarray:
    return np.arange(first, first + rows) // CONTEXT


def test_reservoir_mixes_two_thousand_texts_in_a_batch() -> None:
    slots = 1 << 19
    reservoir = Reservoir(slots, (1,), [torch.float32], seed=0)
    ids = torch.from_numpy(texts(0, slots))
    reservoir.fill([ids[:, None].float()], ids)
    served, batches = slots, []
    for step in range(400):
        fresh = torch.from_numpy(texts(served, BATCH))
        (rows,), groups = reservoir.swap([fresh[:, None].float()], fresh)
        served += BATCH
        if step >= 384:
            batches.append(groups.numpy())
            assert torch.equal(rows[:, 0].long(), groups)
    found = effective_groups(batches)
    assert found > 1500
    assert found == pytest.approx(2 * slots / CONTEXT, rel=0.06), "the limit of many draws"
    # What is in the slots says it without drawing.
    assert effective_groups([reservoir.groups.numpy()]) == pytest.approx(found, rel=0.05)


def streaming() -> Iterator[np.ndarray]:
    for step in range(20):
        yield texts(step * BATCH, BATCH)


def mixing_buffer(contexts: int, mix: float = 0.5) -> Iterator[np.ndarray]:
    """SAELens' buffer: permute all, serve what is above the kept half in batches, refill."""
    random = np.random.default_rng(0)
    capacity, served = contexts * CONTEXT, 0
    storage = np.empty(0, np.int64)
    while True:
        fresh = texts(served, capacity - len(storage))
        served += len(fresh)
        storage = random.permutation(np.concatenate([storage, fresh]))
        serve = len(storage) - int(mix * capacity)
        for first in range(0, serve - serve % BATCH, BATCH):
            yield storage[first : first + BATCH]
        storage = storage[serve - serve % BATCH :]


def test_streaming_mixes_as_many_texts_as_fit_into_a_batch() -> None:
    assert effective_groups(streaming()) == pytest.approx(BATCH / CONTEXT, rel=0.01)


def test_a_mixing_buffer_of_64_contexts_mixes_about_96() -> None:
    batches = mixing_buffer(64)
    for _ in range(50):
        next(batches)
    assert effective_groups(next(batches) for _ in range(100)) == pytest.approx(96, abs=4)
