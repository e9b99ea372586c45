"""Rows of a store: every row once per pass at all sites alike, and bit-exact continuation."""

from __future__ import annotations

import gc
import math
import threading
import time

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.rows.held import HeldRows
from layerscope.analyses.sae.rows.stored import StoredRows
from layerscope.store import Store, mixing


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("size", [1, 32, 300])
def test_each_pass_takes_each_row_once_at_all_sites(numbered, dtype, size) -> None:  # type: ignore[no-untyped-def]
    with StoredRows(numbered(dtype=dtype), ["a", "b"]) as source:
        batches = [source.next(size) for _ in range(-(-900 // size))]
    a, b = (torch.cat(parts)[:900] for parts in zip(*batches, strict=True))
    assert a.dtype == b.dtype == torch.float32
    assert {len(parts[0]) for parts in batches} == {size}
    assert torch.equal(a[:, 0] * 2, b[:, 5])
    for start in (0, 300, 600):
        assert sorted(a[start : start + 300, 0].tolist()) == list(range(300))


def test_bfloat16_is_widened_exactly(numbered) -> None:  # type: ignore[no-untyped-def]
    with StoredRows(numbered(200, dtype=torch.bfloat16), ["a"]) as source:
        got = source.next(200)[0]
    assert got.dtype == torch.float32
    assert sorted(got[:, 0].tolist()) == list(range(200))


def test_in_memory_the_same_numbers_come_in_the_same_order(numbered) -> None:  # type: ignore[no-untyped-def]
    store = numbered()
    held = HeldRows({"a": store["a"][:], "b": store["b"][:]}, seed=4)
    with StoredRows(store, ["a", "b"], seed=4) as source:
        for _ in range(9):
            for found, wanted in zip(source.next(77), held.next(77), strict=True):
                assert torch.equal(found, wanted)


@pytest.mark.parametrize("pool", [1 << 30, 1 << 10])
@pytest.mark.parametrize("after", [0, 1, 3, 17])
def test_restored_it_goes_on_bit_by_bit(numbered, pool, after, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(mixing, "POOL_BYTES", pool)
    monkeypatch.setattr(mixing, "RUN_BYTES", 64)
    store = numbered()
    with (
        StoredRows(store, ["b", "a"], seed=2) as source,
        StoredRows(store, ["b", "a"], seed=2) as new,
    ):
        for _ in range(after):
            source.next(64)
        state = source.state()
        new.restore(state)
        for _ in range(8):
            for found, wanted in zip(new.next(64), source.next(64), strict=True):
                assert torch.equal(found, wanted)
    assert set(state) == {"place"}
    assert state["place"].numel() == 3


def test_stores_larger_than_a_pool_are_mixed_over_everything(numbered, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    store = numbered(3000)
    monkeypatch.setattr(mixing, "POOL_BYTES", 300 * 40)
    monkeypatch.setattr(mixing, "RUN_BYTES", 5 * 16)
    with StoredRows(store, ["a", "b"]) as source:
        batches = [source.next(150)[0][:, 0].numpy() for _ in range(20)]
    assert sorted(np.concatenate(batches)) == list(range(3000))
    for batch in batches:
        # 60 runs over ten tenths: fewer than eight tenths met has a probability below 1e-6.
        assert len(np.unique(batch // 300)) >= 8
    # The pool holds both sites: 300 rows of 40 bytes, in runs of five rows of the narrower one.
    assert len(np.unique(np.concatenate(batches[:2]) // 5)) == 60


@pytest.mark.parametrize("as_mask", [True, False])
def test_only_some_rows(numbered, as_mask) -> None:  # type: ignore[no-untyped-def]
    mask = np.arange(300) % 3 == 1
    rows = mask if as_mask else torch.from_numpy(np.flatnonzero(mask))
    with StoredRows(numbered(), ["a"], rows=rows) as source:
        assert source.per_pass == 100
        assert sorted(source.next(100)[0][:, 0].tolist()) == np.flatnonzero(mask).tolist()
        assert (source.sample(30)[0][:, 0] % 3 == 1).all()


def test_rows_that_choose_nothing_or_twice(numbered) -> None:  # type: ignore[no-untyped-def]
    store = numbered()
    with pytest.raises(ValueError, match="none of the 300 rows"):
        StoredRows(store, ["a"], rows=np.zeros(300, bool))
    with pytest.raises(ValueError, match="names 2 rows twice"):
        StoredRows(store, ["a"], rows=[1, 1, 5, 5])


def test_a_sample_moves_nothing(numbered) -> None:  # type: ignore[no-untyped-def]
    with StoredRows(numbered(), ["a", "b"]) as one, StoredRows(one.store, ["a", "b"]) as other:
        one.next(50)
        other.next(50)
        a, b = one.sample(200, seed=3)
        assert len(set(a[:, 0].tolist())) == 200
        assert torch.equal(a[:, 0] * 2, b[:, 0])
        assert a[:, 0].tolist() != sorted(a[:, 0].tolist())
        assert torch.equal(one.next(50)[0], other.next(50)[0])


def test_effective_groups_are_counted_by_text(numbered) -> None:  # type: ignore[no-untyped-def]
    with StoredRows(numbered(), ["a"]) as source:
        wanted = 30 * 299 / 270
        assert source.effective_groups(300) == pytest.approx(wanted, rel=1e-12)
        assert source.effective_groups(100) == pytest.approx(wanted, rel=0.1)


def test_samples_and_stores_without_texts(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import pandas as pd

    for name, wanted in (("sample", 2 * 5 / 4), ("other", math.nan)):
        store = Store.create(
            tmp_path / name, {"n": name}, sites={"a": 2}, dtype=torch.float32, about={}
        )
        store.write(0, {"a": torch.zeros(6, 2)}, pd.DataFrame({name: [0, 0, 0, 1, 1, 1]}))
        store.finish(1)
        with StoredRows(store, ["a"]) as source:
            assert source.effective_groups(6) == pytest.approx(wanted, nan_ok=True)


def test_about(numbered) -> None:  # type: ignore[no-untyped-def]
    store = numbered()
    with StoredRows(store, ["a"]) as source:
        assert source.about == {"model": "counter", "data": "numbers", "store_key": store.key}
        assert repr(source) == "StoredRows(a [4]; 300 rows of a pass, cpu)"


def test_unknown_sites_and_short_stores(numbered) -> None:  # type: ignore[no-untyped-def]
    store = numbered(30)
    with pytest.raises(LookupError, match=r"site 'c' is not in numbered; closest: a, b"):
        StoredRows(store, ["c"])
    with pytest.raises(ValueError, match=r"a has 30 rows and a batch takes 31; pass batch=30"):
        StoredRows(store, ["a"]).next(31)


def test_nan_rows_are_named_by_row_text_and_position(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import pandas as pd

    broken = torch.zeros(20, 3)
    broken[13, 1] = math.nan
    store = Store.create(
        tmp_path / "s", {}, sites={"ok": 3, "mid": 3}, dtype=torch.float32, about={}
    )
    frame = pd.DataFrame({"text": [7] * 10 + [8] * 10, "position": [*range(10), *range(10)]})
    store.write(0, {"ok": torch.zeros(20, 3), "mid": broken}, frame)
    store.finish(1)
    with StoredRows(store, ["ok", "mid"]) as source:
        for _ in range(2):  # and again, at the same rows
            with pytest.raises(
                ValueError, match=r"mid is NaN at row 13 \(text 8, position 3\) \(1 such rows"
            ):
                source.next(20)
    with pytest.raises(ValueError, match=r"mid is NaN at row 13"):
        StoredRows(store, ["mid"]).sample(20)


def test_threads_end_with_close_and_when_forgotten(numbered) -> None:  # type: ignore[no-untyped-def]
    before = threading.active_count()
    source = StoredRows(numbered(), ["a"])
    source.next(10)
    assert threading.active_count() > before
    source.close()
    source.close()
    assert threading.active_count() == before
    source.next(10)
    del source
    # A thread that just reads holds what it reads from.
    limit = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < limit:
        time.sleep(0.01)
        gc.collect()
    assert threading.active_count() == before


def test_after_close_it_goes_on_where_it_was(numbered) -> None:  # type: ignore[no-untyped-def]
    with StoredRows(numbered(), ["a"]) as one, StoredRows(one.store, ["a"]) as other:
        one.next(40)
        other.next(40)
        one.close()
        assert torch.equal(one.next(40)[0], other.next(40)[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("share", [0.0, 0.25])
def test_on_cuda_the_rows_are_the_same(numbered, share, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from layerscope.analyses.sae.rows import stored

    monkeypatch.setattr(stored, "SHARE_OF_DEVICE", share)
    store = numbered(dtype=torch.bfloat16)
    with (
        StoredRows(store, ["a", "b"]) as here,
        StoredRows(store, ["a", "b"], device="cuda") as there,
    ):
        for _ in range(12):
            for found, wanted in zip(there.next(70), here.next(70), strict=True):
                assert found.device.type == "cuda"
                assert torch.equal(found.cpu(), wanted)
        assert torch.equal(there.sample(50)[1].cpu(), here.sample(50)[1])
