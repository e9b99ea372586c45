"""Rows in memory: endless seeded passes, bit-exact continuation, bad input named."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.rows.held import HeldRows
from layerscope.analyses.sae.rows.mixing import effective_groups


def numbered(count: int, width: int = 3) -> torch.Tensor:
    """Row i holds i in every dimension."""
    return torch.arange(count, dtype=torch.float32)[:, None].expand(count, width).contiguous()


def served(source: HeldRows, size: int, batches: int) -> list[int]:
    rows = torch.cat([source.next(size)[0] for _ in range(batches)])
    assert (rows == rows[:, :1]).all()
    return rows[:, 0].int().tolist()


@pytest.mark.parametrize("size", [1, 7, 64, 100])
def test_each_pass_takes_each_row_once_across_batches_that_straddle(size: int) -> None:
    got = served(HeldRows(numbered(100)), size, 1 + 300 // size)
    passes = [got[i : i + 100] for i in (0, 100, 200)]
    assert [sorted(one) for one in passes] == [list(range(100))] * 3
    assert len({tuple(one) for one in passes}) == 3, "each pass has an order of its own"


def test_the_order_is_the_seed_s_whatever_the_batch() -> None:
    one, other = served(HeldRows(numbered(50)), 10, 12), served(HeldRows(numbered(50)), 40, 3)
    assert one == other
    assert one != served(HeldRows(numbered(50), seed=1), 10, 12)
    mixed = HeldRows(numbered(50))
    assert served(mixed, 7, 2) + served(mixed, 20, 3) + served(mixed, 2, 23) == one


def test_the_first_row_of_a_pass_is_uniform() -> None:
    """Over 4,000 passes each of 8 rows opens one as often: chi-square, 0.1 % point of 7 degrees."""
    source = HeldRows(numbered(8))
    counts = np.bincount(served(source, 8, 4000)[::8], minlength=8)
    assert ((counts - 500) ** 2 / 500).sum() < 24.3


def test_all_sites_give_the_same_rows() -> None:
    source = HeldRows({"a": numbered(40, 2), "b": numbered(40, 5).double() * 10})
    a, b = source.next(30)
    assert (source.sites, source.widths, source.per_pass) == (("a", "b"), (2, 5), 40)
    assert b.dtype == torch.float32
    torch.testing.assert_close(a[:, 0] * 10, b[:, 4])


@pytest.mark.parametrize("after", [0, 1, 5])
def test_restored_it_goes_on_bit_by_bit(after: int) -> None:
    data = torch.randn(70, 4, generator=torch.Generator().manual_seed(0))
    source = HeldRows(data)
    for _ in range(after):
        source.next(32)
    state = source.state()
    wanted = [source.next(32)[0] for _ in range(6)]
    again = HeldRows(data)
    again.next(5)
    again.restore(state)
    for want in wanted:
        assert torch.equal(again.next(32)[0], want)


def test_a_state_of_another_source_is_refused() -> None:
    state = HeldRows(numbered(70), seed=3).state()
    with pytest.raises(ValueError, match=r"70 rows with seed 3, this one has 60 rows and seed 0"):
        HeldRows(numbered(60)).restore(state)


def test_a_sample_moves_nothing_and_repeats_nothing() -> None:
    source, untouched = HeldRows(numbered(90)), HeldRows(numbered(90))
    sample = source.sample(20, seed=5)[0][:, 0].int().tolist()
    assert len(set(sample)) == 20
    assert sample != sorted(sample)
    assert sample == source.sample(20, seed=5)[0][:, 0].int().tolist()
    assert len(source.sample(1000)[0]) == 90
    assert served(source, 9, 3) == served(untouched, 9, 3)


def test_no_global_generator_moves() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    source = HeldRows(numbered(90))
    source.sample(5)
    source.next(5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_effective_groups_of_a_shuffled_corpus() -> None:
    """Whole passes as one batch: 100 texts of 20 rows give g (n - 1) / (n - g) exactly."""
    groups = np.repeat(np.arange(100), 20)
    source = HeldRows(numbered(2000), groups=groups)
    assert source.effective_groups(2000) == pytest.approx(100 * 1999 / 1900, rel=1e-12)
    assert source.effective_groups(500) == pytest.approx(100 * 1999 / 1900, rel=0.1)
    assert math.isnan(HeldRows(numbered(9)).effective_groups(4))
    assert math.isinf(HeldRows(numbered(9), groups=np.arange(9)).effective_groups(9))


def test_effective_groups_by_a_plain_loop() -> None:
    random = np.random.default_rng(0)
    batches = [random.integers(0, 6, 30) for _ in range(4)]
    shares = []
    for batch in batches:
        pairs = [batch[i] == batch[j] for i in range(30) for j in range(30) if i != j]
        shares.append(np.mean(pairs))
    assert effective_groups(batches) == pytest.approx(1 / np.mean(shares), rel=1e-12)
    with pytest.raises(ValueError, match="no batch"):
        effective_groups([])
    with pytest.raises(ValueError, match="batch of 1 rows"):
        effective_groups([np.zeros(1)])


def test_fewer_rows_than_a_batch() -> None:
    with pytest.raises(ValueError, match=r"rows has 30 rows and a batch takes 64; pass batch=30"):
        HeldRows(numbered(30)).next(64)
    with pytest.raises(ValueError, match="at least 1 row, not 0"):
        HeldRows(numbered(30)).next(0)


@pytest.mark.parametrize(("value", "kind"), [(math.nan, "NaN"), (math.inf, "infinite")])
def test_broken_rows_are_named(value: float, kind: str) -> None:
    data = numbered(30)
    data[17, 1] = data[20, 0] = value
    with pytest.raises(ValueError, match=rf"mid is {kind} at row 17 \(2 such rows"):
        HeldRows({"mid": data})


def test_finite_rows_whose_sum_overflows_pass() -> None:
    data = torch.full((4, 2), 3e38)
    assert torch.equal(HeldRows(data).next(4)[0], data)


def test_shapes_that_are_no_rows() -> None:
    with pytest.raises(ValueError, match=r"\[2, 3, 4\]; flatten"):
        HeldRows(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"torch.int64 \[2, 3\]"):
        HeldRows(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="b has 3 rows, other sites 2"):
        HeldRows({"a": torch.zeros(2, 3), "b": torch.zeros(3, 3)})
    with pytest.raises(ValueError, match="3 groups for 2 rows"):
        HeldRows(torch.zeros(2, 3), groups=np.zeros(3))
    with pytest.raises(ValueError, match="no rows"):
        HeldRows({})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_the_rows_are_the_same() -> None:
    data = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    here, there = HeldRows(data), HeldRows(data, device="cuda")
    for _ in range(5):
        rows = there.next(128)[0]
        assert rows.device.type == "cuda"
        assert torch.equal(rows.cpu(), here.next(128)[0])


def test_equal_numbers_are_the_same_rows_and_others_are_not() -> None:
    rows = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    moved = rows.clone()
    moved[7, 1] += 1e-6
    assert HeldRows(rows).identity == HeldRows(rows.clone()).identity
    assert HeldRows(moved).identity != HeldRows(rows).identity
    assert HeldRows({"a": rows, "b": moved}).identity != HeldRows({"a": moved, "b": rows}).identity
