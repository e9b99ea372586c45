"""A view indexes like the tensor it stands for, and hands out memory nobody else sees."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerscope.store import SiteView, Store

N = 41
SITE = "blocks.0.resid_post"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[SiteView, torch.Tensor]:
    folder = tmp_path_factory.mktemp("view") / "s"
    truth = torch.randn(N, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    store = Store.create(folder, {}, sites={SITE: 5}, dtype=torch.bfloat16, about={})
    for index, part in enumerate(truth.split([7, 0, 20, 1, 13])):
        store.write(index, {SITE: part}, pd.DataFrame({"text": [index] * len(part)}))
    return store[0], truth


fast = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
rows = st.integers(-N, N - 1)


@fast
@given(first=st.none() | st.integers(-60, 60), stop=st.none() | st.integers(-60, 60))
def test_slices(pair: Any, first: int | None, stop: int | None) -> None:
    view, truth = pair
    got = view[first:stop]
    assert got.shape == truth[first:stop].shape
    assert torch.equal(got, truth[first:stop])


@fast
@given(step=st.integers(-9, 9).filter(bool), first=st.none() | st.integers(-60, 60))
def test_slices_with_steps(pair: Any, step: int, first: int | None) -> None:
    view, truth = pair
    assert torch.equal(view[first::step], truth[np.arange(N)[first::step].copy()])


@fast
@given(
    index=st.lists(rows, max_size=60),
    kind=st.sampled_from([list, np.array, torch.tensor, pd.Series]),
)
def test_integers_in_any_order_repeated_or_negative(pair: Any, index: list[int], kind: Any) -> None:
    view, truth = pair
    given_index = kind(index) if index or kind is list else kind(index, dtype=_whole(kind))
    assert torch.equal(view[given_index], truth[torch.tensor(index, dtype=torch.long)])


def _whole(kind: Any) -> Any:
    return torch.long if kind is torch.tensor else np.int64


@fast
@given(
    mask=st.lists(st.booleans(), min_size=N, max_size=N),
    kind=st.sampled_from([list, np.array, torch.tensor]),
)
def test_masks(pair: Any, mask: list[bool], kind: Any) -> None:
    view, truth = pair
    assert torch.equal(view[kind(mask)], truth[torch.tensor(mask)])


@fast
@given(row=rows)
def test_one_row(pair: Any, row: int) -> None:
    view, truth = pair
    assert view[row].shape == (5,)
    assert torch.equal(view[row], truth[row])
    assert torch.equal(view[np.int32(row)], truth[row])


@fast
@given(
    size=st.integers(1, 50),
    seed=st.integers(0, 5),
    shuffle=st.booleans(),
    some=st.none() | st.lists(rows, max_size=30, unique_by=lambda row: row % N),
)
def test_batches_give_every_row_once_with_its_number(
    pair: Any, size: int, seed: int, shuffle: bool, some: list[int] | None
) -> None:
    view, truth = pair
    batches = list(view.batches(size, shuffle=shuffle, seed=seed, rows=some))
    wanted = list(range(N)) if some is None else [row % N for row in some]
    index = [int(i) for _, numbers in batches for i in numbers]
    assert sorted(index) == sorted(wanted)
    assert shuffle or index == wanted
    assert all(len(numbers) == size for _, numbers in batches[:-1])
    for data, numbers in batches:
        assert torch.equal(data, truth[numbers])


@pytest.mark.parametrize("some", [None, slice(None, None, -2)], ids=str)
def test_batches_over_many_pools(pair: Any, monkeypatch: pytest.MonkeyPatch, some: Any) -> None:
    monkeypatch.setattr("layerscope.store.mixing.POOL_BYTES", 100)
    monkeypatch.setattr("layerscope.store.mixing.RUN_BYTES", 20)
    view, truth = pair
    batches = list(view.batches(4, shuffle=True, rows=some))
    assert {len(index) for _, index in batches[:-1]} == {4}
    index = torch.cat([index for _, index in batches])
    assert torch.equal(torch.cat([data for data, _ in batches]), truth[index])
    assert sorted(index.tolist()) == sorted(range(N)[some] if some else range(N))


def test_pandas_mask_from_the_rows(make: Callable[..., Any]) -> None:
    known = make()
    mask = known.store.rows["upos"] == "NOUN"
    assert torch.equal(known.store[0][mask], known.truth[SITE][torch.tensor(mask.to_numpy())])


def test_shuffling_is_a_function_of_the_seed_and_moves_no_global_generator(pair: Any) -> None:
    view, _ = pair

    def order(seed: int) -> list[int]:
        return torch.cat([i for _, i in view.batches(7, shuffle=True, seed=seed)]).tolist()

    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first = order(0)
    assert first == order(0) != order(1)
    assert first != sorted(first)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


@pytest.mark.parametrize("index", [slice(7, 20), slice(3, 30), [3, 1], 4, slice(None)], ids=str)
def test_writing_into_a_result_changes_nothing_else(make: Callable[..., Any], index: Any) -> None:
    known = make((30, 30))
    view, truth = known.store[0], known.truth[SITE]
    kept = view[index]
    view[index].fill_(99)
    next(iter(view.batches(10)))[0].fill_(99)
    view.numpy()[:] = 99
    assert torch.equal(view[index], truth[index])
    assert torch.equal(kept, truth[index])
    known.store.verify()


def test_views_of_a_full_precision_store_are_numpy_matrices(make: Callable[..., Any]) -> None:
    known = make()
    np.testing.assert_array_equal(np.asarray(known.store[0]), known.truth[SITE].numpy())
    assert np.asarray(known.store[0], dtype=np.float64).dtype == np.float64


def test_bfloat16_comes_to_numpy_as_float32(pair: Any) -> None:
    view, truth = pair
    np.testing.assert_array_equal(view.numpy(), truth.float().numpy())


def test_a_view_says_what_it_is(pair: Any) -> None:
    view, _ = pair
    assert view.shape == (N, 5)
    assert len(view) == N
    assert repr(view) == "SiteView('blocks.0.resid_post', [41 rows, 5], torch.bfloat16)"


def test_empty_stores_can_be_indexed(make: Callable[..., Any]) -> None:
    for sizes in ((), (0,)):
        view = make(sizes, name=f"empty{len(sizes)}").store[0]
        assert view[:].shape == view[[]].shape == view[2:1].shape == (0, 6)
        assert list(view.batches(3)) == list(view.batches(3, shuffle=True)) == []


def test_wrong_indices_are_refused(pair: Any) -> None:
    view, _ = pair
    for row in (N, -N - 1):
        with pytest.raises(IndexError, match=rf"blocks.0.resid_post: row {row} of 41"):
            view[row]
    with pytest.raises(IndexError, match="mask of 3 for 41 rows"):
        view[[True, False, True]]
    with pytest.raises(TypeError, match="chosen by slice, int, mask or ints, not by float64"):
        view[[0.5]]
    with pytest.raises(TypeError, match="one index, for rows"):
        view[1:2, 3]
    with pytest.raises(TypeError, match=r"needs one dimension, got shape \(1, 2\)"):
        view[[[1, 2]]]
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        view.batches(0)


def test_rows_are_read_into_memory_of_the_caller(pair: Any) -> None:
    view, truth = pair
    out = torch.full((9, 5), 3.0).bfloat16()
    got = view.read_into([40, -1, 3, 3, 8], out)
    assert torch.equal(got, truth[[40, -1, 3, 3, 8]])
    assert torch.equal(out[:5], got)
    assert got.data_ptr() == out.data_ptr()
    assert (out[5:] == 3).all()
    for wrong in (torch.zeros(4, 5).bfloat16(), torch.zeros(9, 4).bfloat16(), torch.zeros(9, 5)):
        with pytest.raises(ValueError, match=r"5 rows need torch.bfloat16 \[5, 5\], got"):
            view.read_into([0, 1, 2, 3, 4], wrong)


def test_a_thousand_shards_hold_no_file_handles(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    store = Store.create(tmp_path / "s", {}, sites={SITE: 2}, dtype=torch.float32, about={})
    for index in range(60):
        store.write(index, {SITE: torch.ones(1, 2)}, pd.DataFrame({"text": [index]}))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        assert Store.open(store.path)[0][torch.randperm(60)].sum() == 120
        kept = [Store.open(store.path)[0][i : i + 1] for i in range(60)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert torch.cat(kept).sum() == 120
