"""`clusters`: planted clusters are found, are stable, and structureless data are not mistaken for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score, silhouette_samples

from layerscope.analyses.clustering.clusters_finding import ClusterFinding
from layerscope.analyses.clustering.partitions import (
    partition,
    silhouettes_of,
    stability,
    without_structure,
)
from layerscope.analyses.clusters import clusters
from layerscope.analyses.measures.gdv import half_z
from layerscope.finding import Finding
from layerscope.store import Store

QUICK: dict[str, Any] = {"progress": False, "resamples": 3, "k": 4, "least": 8}
SIZES = (90, 60, 50, 40)


def truth() -> np.ndarray:
    codes = np.repeat(np.arange(4), SIZES)
    return np.random.default_rng(0).permutation(codes)


def planted(make_store: Any, **more: Any) -> Store:
    """Four clouds of different sizes at block 1, one cloud at block 0; the clouds have a word each."""
    codes, generator = truth(), torch.Generator().manual_seed(0)
    centres = 10 * torch.eye(4, 6)[torch.from_numpy(codes)]
    words = [("the", "cat", "sees", "and")[code] for code in codes]
    columns: dict[str, Any] = {
        "text": np.arange(240) // 4,
        "group": [f"g{row // 4}" for row in range(240)],
        "token": words,
        "kind": [("DET", "NOUN", "VERB", "CCONJ")[code] for code in codes],
    }
    sites = {
        "blocks.0.resid_post": torch.randn(240, 6, generator=generator),
        "blocks.1.resid_post": torch.randn(240, 6, generator=generator) + centres,
    }
    store: Store = make_store(sites, **columns | more)
    return store


def test_planted_clusters_are_found_with_their_words(make_store: Any) -> None:
    found = clusters(planted(make_store), label="kind", **QUICK)
    for method in ("kmeans", "hdbscan"):
        lines = found.clusters(1, method)
        # HDBSCAN may leave a row at the edge of its cloud in none.
        assert np.abs(lines["n"].to_numpy() - SIZES).max() <= (method == "hdbscan"), method
        assert list(lines["words"]) == ["the", "cat", "sees", "and"]
        assert list(lines["commonest"]) == ["DET", "NOUN", "VERB", "CCONJ"]
        assert (lines["share"] == 1).all()
        assert lines["stability"].min() > (0.95 if method == "hdbscan" else 0.999)
        agreement = found.curve("agreement", method).set_index("layer").loc[1]
        assert agreement["value"] == pytest.approx(1, abs=0.02)
        assert agreement["null_mean"] == pytest.approx(0, abs=0.02)
    clear, none = (found.curve("silhouette").set_index("layer").loc[layer] for layer in (1, 0))
    assert clear["value"] > 2 * clear["null_mean"]
    assert none["value"] < none["null_mean"] + 4 * max(none["null_sd"], 0.01)
    assert clear["ci_low"] < clear["value"] < clear["ci_high"]
    assert "By k-means, clusters are clearest at blocks.1.resid_post: 4 of them" in found.answer()


def test_hdbscan_finds_nothing_in_one_cloud_and_says_so(make_store: Any) -> None:
    found = clusters(planted(make_store), **QUICK | {"least": 20})
    line = found.curve("silhouette", "hdbscan").set_index("layer").loc[0]
    assert line["clusters"] < 2
    assert np.isnan(line["value"])
    assert np.isnan(found.curve("stability", "hdbscan").set_index("layer").loc[0, "value"])
    assert any("fewer than two clusters at blocks.0.resid_post" in note for note in found.notes)
    with pytest.raises(ValueError, match=r"score is one of 'silhouette', 'stability', not 'agree"):
        found.curve("agreement")


def test_examples_are_words_in_their_texts(make_store: Any) -> None:
    texts = [f"{word} is said here ." for word in ("the", "cat", "sees", "and")]
    content = [texts[code] for code in truth()]
    spans = {"char_start": [0] * 240, "char_end": [c.index(" ") for c in content]}
    store = planted(make_store, text=np.arange(240), content=content, **spans)
    found = clusters(store, **QUICK | {"examples": 3})
    shown = found.examples(1, 1)
    assert list(shown["rank"]) == [1, 2, 3]
    assert set(shown["token"]) == {"cat"}
    assert set(shown["right"]) == {" is said here ."}
    codes, x = truth(), store["blocks.1.resid_post"][:].numpy()
    own = (x - x.mean(0)) / x.std(0)
    away = np.square(own[codes == 1] - own[codes == 1].mean(0)).sum(1)
    assert shown["row"].iloc[0] == np.flatnonzero(codes == 1)[away.argmin()]
    with pytest.raises(LookupError, match="there is no cluster 9 at 1"):
        found.examples(1, 9)
    with pytest.raises(LookupError, match=r"no clusters of kmeans at 5; there are some at: blocks"):
        found.clusters(5)
    with pytest.raises(ValueError, match="method is one of 'kmeans', 'hdbscan' here, not 'dbscan'"):
        found.clusters(1, "dbscan")


def test_silhouettes_are_those_of_scikit_learn_without_the_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    parts = np.arange(60) % 3
    parts[::7] = -1
    found = silhouettes_of(z, parts)
    inside = parts >= 0
    assert np.isnan(found[~inside]).all()
    np.testing.assert_allclose(found[inside], silhouette_samples(z[inside].numpy(), parts[inside]))
    assert np.isnan(silhouettes_of(z, np.zeros(60, dtype=np.int64))).all()


def test_stability_is_one_for_clear_clusters_and_low_for_none() -> None:
    codes, generator = truth(), np.random.default_rng(0)
    noise = generator.normal(size=(240, 6))
    groups = np.arange(240) // 4
    make = partition("kmeans", k=4, least=8, seed=0)
    clear = noise + 10 * np.eye(4, 6)[codes]
    found = stability(clear, make(clear), groups, make, resamples=4, seed=0)
    assert found.agreement.min() == 1
    assert (found.overlap == 1).all()
    # Where two clusters come back as one, each overlaps it by its share.
    codes = truth()
    merged = stability(clear, codes, groups, lambda z: np.minimum(make(z), 2), resamples=1, seed=0)
    assert merged.overlap[:2] == pytest.approx([1, 1])
    assert merged.overlap[2:].sum() == pytest.approx(1)
    none = stability(noise, make(noise), groups, make, resamples=4, seed=0)
    assert none.agreement.mean() < 0.8
    assert none.overlap.mean() < 0.9


def test_clusters_are_numbered_by_size() -> None:
    codes = truth()
    z = 10 * np.eye(4, 6)[codes] + np.random.default_rng(0).normal(size=(240, 6))
    for method in ("kmeans", "hdbscan"):
        parts = partition(method, k=4, least=8, seed=0)(z)  # type: ignore[arg-type]
        assert tuple(np.bincount(parts)) == SIZES
        assert adjusted_rand_score(parts, codes) == 1


def test_shuffled_features_keep_their_values_only() -> None:
    z = np.random.default_rng(0).normal(size=(500, 2)) @ np.array([[1, 0.9], [0, 0.4]])
    null = without_structure(z, 0)
    np.testing.assert_array_equal(np.sort(null, 0), np.sort(z, 0))
    assert np.corrcoef(z.T)[0, 1] > 0.8
    assert abs(np.corrcoef(null.T)[0, 1]) < 0.15


def test_it_is_saved_and_drawn(make_store: Any, tmp_path: Path) -> None:
    found = clusters(planted(make_store), label="kind", **QUICK)
    again = Finding.load(found.save(tmp_path / "finding"))
    assert isinstance(again, ClusterFinding)
    assert again.answer() == found.answer()
    figure = again.figure()
    bars = [trace for trace in figure.data if trace.type == "bar"]
    shown = [bar for bar in bars if bar.visible is True]
    assert len(shown) == 1
    site = figure.layout.updatemenus[1].buttons[figure.layout.updatemenus[1].active].label
    assert site == "k-means at blocks.1.resid_post"
    assert tuple(shown[0].x) == SIZES
    assert "DET: 100% of the rows" in shown[0].customdata[0]
    assert "<b>the</b>" in shown[0].customdata[0]


def test_what_does_not_fit_is_refused(make_store: Any) -> None:
    store = planted(make_store)
    with pytest.raises(
        ValueError, match="methods is a list of 'kmeans', 'hdbscan'; 'dbscan' is not"
    ):
        clusters(store, methods=["dbscan"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="k must be at least 2, got 1"):
        clusters(store, k=1)
    with pytest.raises(ValueError, match="240 rows are too few for 200 clusters"):
        clusters(store, k=200)
    with pytest.raises(LookupError, match="no label 'upos' here"):
        clusters(store, label="upos", progress=False)


def test_constant_and_repeated_rows_do_not_break_it(make_store: Any) -> None:
    sites = {
        "blocks.0.resid_post": torch.ones(240, 5),
        "blocks.1.resid_post": torch.eye(2, 5).repeat(120, 1),
    }
    rows = {"group": [f"g{i // 4}" for i in range(240)]}
    found = clusters(make_store(sites, **rows), **QUICK)
    two = found.curve("silhouette").set_index("layer").loc[1]
    assert two["clusters"] == 2
    assert two["value"] == 1
    assert found.curve("silhouette").set_index("layer").loc[0, "clusters"] == 1


def test_hdbscan_alone_on_a_cloud_has_empty_nulls(make_store: Any) -> None:
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    store = make_store({"blocks.0.resid_post": x}, group=np.arange(200) // 5, token=["a"] * 200)
    found = clusters(store, methods=("hdbscan",), resamples=2, progress=False)
    assert found.table["null_mean"].isna().all()
    assert "HDBSCAN finds no two clusters" in found.answer()


def test_one_group_has_no_stability(make_store: Any) -> None:
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    x[:60] += 20
    store = make_store(
        {"blocks.0.resid_post": x}, group=["one"] * 120, token=["a"] * 120, kind=["a", "b"] * 60
    )
    found = clusters(store, methods=("kmeans",), k=2, label="kind", resamples=2, progress=False)
    steady = found.curve("stability")
    assert steady[["value", "ci_low", "ci_high"]].isna().all().all()
    assert found.curve("agreement")[["ci_low", "ci_high"]].isna().all().all()
    assert "nan" not in found.answer()
    assert found.figure().data


def test_the_spread_of_the_null_is_that_of_a_sample(make_store: Any) -> None:
    from layerscope.analyses.clustering import cluster_lines

    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    store = make_store({"blocks.0.resid_post": x}, group=np.arange(120) // 4, token=["a"] * 120)
    found = clusters(store, methods=("kmeans",), k=2, resamples=2, progress=False)
    z = half_z(x).numpy()
    drawn = []
    for draw in range(cluster_lines.NULLS):
        null = without_structure(z, draw)
        parts = partition("kmeans", k=2, least=15, seed=0)(null)
        drawn.append(silhouettes_of(torch.from_numpy(null), parts).mean())
    assert found.curve()["null_sd"].iloc[0] == pytest.approx(np.std(drawn, ddof=1))
