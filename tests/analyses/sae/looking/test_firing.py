"""The pass over a store counts what was planted, in blocks of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.looking.firing import POOL, Firing, blocks, firing, texts_of
from layerscope.analyses.sae.sae import SAE
from layerscope.store import Store


def seen(known: Any, block: int | None = None, **options: Any) -> Firing:
    return firing(
        known.sae, known.store, [known.site], top=4, block=block, progress=False, **options
    )


def test_counts_sums_and_maxima_are_those_planted(known_words: Any) -> None:
    found, codes = seen(known_words), known_words.codes.astype(np.float64)
    assert found.rows == len(codes)
    assert found.fired.tolist() == (codes > 0).sum(0).tolist()
    assert found.fired[4] == 0  # the dead one
    assert found.total.tolist() == codes.sum(0).tolist()
    assert found.squares.tolist() == (codes**2).sum(0).tolist()
    assert found.top.value[:, 0].tolist() == codes.max(0).tolist()


def test_the_strongest_are_the_first_rows_of_the_largest_codes_one_of_each_text(
    known_words: Any,
) -> None:
    found, codes = seen(known_words), known_words.codes
    text = known_words.rows["text"].to_numpy()
    for latent in range(codes.shape[1]):
        order = np.argsort(-codes[:, latent], kind="stable")
        order = order[codes[order, latent] > 0]
        _, firsts = np.unique(text[order], return_index=True)
        expected = order[np.sort(firsts)][:4].tolist()
        assert [row for row in found.top.row[latent].tolist() if row >= 0] == expected


@pytest.mark.parametrize("block", [1, 64, 97])
def test_the_size_of_blocks_changes_nothing(known_words: Any, block: int) -> None:
    whole, cut = seen(known_words, 10_000), seen(known_words, block)
    assert torch.equal(whole.fired, cut.fired)
    assert torch.equal(whole.total, cut.total)
    for name in ("top", "pool"):
        one, other = getattr(whole, name), getattr(cut, name)
        assert torch.equal(one.row, other.row)
        assert torch.equal(one.value, other.value)


def test_the_pool_is_drawn_from_the_firings_by_the_seed(known_words: Any) -> None:
    one, again, other = (seen(known_words, seed=seed).pool for seed in (0, 0, 1))
    assert torch.equal(one.row, again.row)
    assert not torch.equal(one.row, other.row)
    for latent in range(known_words.codes.shape[1]):
        rows = one.row[latent][one.row[latent] >= 0].numpy()
        fires = np.flatnonzero(known_words.codes[:, latent])
        assert len(rows) == len(set(rows.tolist())) == min(POOL, len(fires))
        assert np.isin(rows, fires).all()


def test_sites_are_read_side_by_side(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "s", {}, sites={"a": 2, "b": 3}, dtype=torch.float32, about={})
    generator = torch.Generator().manual_seed(0)
    x = {"a": torch.randn(10, 2, generator=generator), "b": torch.randn(10, 3, generator=generator)}
    import pandas as pd

    store.write(0, x, pd.DataFrame({"sample": range(10), "group": range(10)}))
    store.finish(1)
    parts = list(blocks(store, ["b", "a"], 4))
    assert torch.equal(torch.cat([rows for rows, _ in parts]), torch.cat([x["b"], x["a"]], 1))
    some = list(blocks(store, ["a"], 2, np.array([1, 5, 7])))
    assert torch.equal(torch.cat([rows for rows, _ in some]), x["a"][[1, 5, 7]])
    assert texts_of(store).tolist() == list(range(10))  # no texts: each row is its own


def test_rows_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    import pandas as pd

    store = Store.create(tmp_path / "s", {}, sites={"a": 2}, dtype=torch.float32, about={})
    x = torch.ones(6, 2)
    x[4, 1] = torch.nan
    store.write(0, {"a": x}, pd.DataFrame({"sample": range(6), "group": range(6)}))
    store.finish(1)
    sae = SAE(torch.eye(2), torch.zeros(2), torch.eye(2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"a: activations of 1 of 6 rows are NaN.* row 4"):
        firing(sae, store, ["a"], top=1, progress=False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_finds_the_same(known_words: Any) -> None:
    import copy

    here = seen(known_words)
    known_words.sae.to("cuda")
    try:
        there = seen(copy.copy(known_words))
    finally:
        known_words.sae.to("cpu")
    assert torch.equal(here.fired, there.fired.cpu())
    assert torch.equal(here.top.row, there.top.row.cpu())
    assert torch.equal(here.pool.row, there.pool.row.cpu())
