"""`geometry`: every number computed a second way, its intervals, nulls and warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from layerscope.analyses.geometry import geometry
from layerscope.analyses.material.blocks import Blocks
from layerscope.analyses.measures import spectrum
from layerscope.analyses.measures.dimension import two_nn
from layerscope.analyses.shapes import cloud as clouds_of
from layerscope.analyses.shapes.geometry_finding import GeometryFinding
from layerscope.analyses.shapes.geometry_table import Nulls, independent, spectral_lines
from layerscope.finding import Finding
from layerscope.planted import clouds

SITES = ("embed", "blocks.0.resid_post", "blocks.1.resid_post")


@pytest.fixture
def planted() -> dict[str, torch.Tensor]:
    """Isotropic; a power law around a mean, turned; and a plane in forty dimensions."""
    turned = clouds.gaussian(900, clouds.power_law(40), mean=0.3) @ clouds.rotation(40)
    return {
        SITES[0]: clouds.gaussian(900, clouds.isotropic(40), seed=1),
        SITES[1]: turned,
        SITES[2]: clouds.cube(900, 2, 40),
    }


def measure(store: Any, **options: Any) -> GeometryFinding:
    return geometry(store, progress=False, **options)


def groups(rows: int, size: int = 9) -> list[str]:
    return [f"g{row // size}" for row in range(rows)]


def value(found: GeometryFinding, measure: str, site: str, column: str = "value") -> float:
    lines = found.measure(measure).set_index("site")
    return float(lines.loc[site, column])


def test_every_number_is_that_of_numpy_and_scikit_learn(
    planted: dict[str, torch.Tensor], make_store: Any
) -> None:
    found = measure(make_store(planted, group=groups(900)))
    for site, x in planted.items():
        rows = x.float().double().numpy()
        values = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2 / 899
        shares = values / values.sum()
        held = shares[shares > 0]
        expected = {
            "participation_ratio_raw": values.sum() ** 2 / (values**2).sum(),
            "effective_rank": np.exp(-(held * np.log(held)).sum()),
            "stable_rank": values.sum() / values.max(),
            "top_share": shares.max(),
        }
        for name, number in expected.items():
            assert value(found, name, site) == pytest.approx(number, rel=1e-6), (name, site)
        spread = rows - rows.mean(0)
        axes = np.linalg.svd(spread, full_matrices=False)[2]
        rest = spread @ axes.T
        rest[:, :2] = 0
        pairs = ~np.eye(900, dtype=bool)
        if site != SITES[2]:  # of a plane nothing is left
            left = cosine_similarity(rest)[pairs].mean()
            assert value(found, "cosine_centred_2", site) == pytest.approx(left, abs=1e-6)
        for name, part in (("cosine", rows), ("cosine_centred", spread)):
            cosine = cosine_similarity(part)[pairs].mean()
            assert value(found, name, site) == pytest.approx(cosine, abs=1e-6)
        assert value(found, "twonn", site) == pytest.approx(two_nn(x.float()).mle, rel=1e-6)
        curve = found.spectrum(site)
        np.testing.assert_allclose(curve["value"], shares[curve["rank"] - 1], atol=1e-9)


def test_planted_shapes_are_found(planted: dict[str, torch.Tensor], make_store: Any) -> None:
    found = measure(make_store(planted, group=groups(900)))
    round_, law, plane = SITES
    assert value(found, "participation_ratio", round_) == pytest.approx(40, rel=0.02)
    assert value(found, "participation_ratio", round_, "ci_high") > 39
    truth = float(spectrum.participation_ratio(clouds.power_law(40)))
    assert value(found, "participation_ratio", law) == pytest.approx(truth, rel=0.08)
    assert value(found, "participation_ratio", plane) == pytest.approx(2, abs=0.05)
    assert value(found, "twonn", plane) == pytest.approx(2, abs=0.2)
    assert value(found, "power_law", law) == pytest.approx(1, abs=0.1)
    # Independent features fill all dimensions, whatever their correlations were.
    assert value(found, "participation_ratio", plane, "null_mean") > 10
    assert value(found, "twonn", plane, "null_mean") > 10
    assert value(found, "participation_ratio", round_, "isotropic") == 40
    drawn = value(found, "participation_ratio_raw", round_, "isotropic")
    assert drawn == pytest.approx(spectrum.isotropic_participation_ratio(900, 40), rel=0.01)
    # The mean was 0.3 in 40 turned dimensions; the variances sum to 4.28.
    assert value(found, "cosine", law) == pytest.approx(40 * 0.09 / (40 * 0.09 + 4.28), abs=0.03)
    assert abs(value(found, "cosine_centred", law)) < 0.01


def test_isotropic_thousand_rows_have_the_golden_values(make_store: Any) -> None:
    x = clouds.gaussian(1000, clouds.isotropic(100))
    found = measure(make_store({"embed": x}, group=groups(1000)))
    assert value(found, "participation_ratio_raw", "embed") == pytest.approx(90.9, abs=1.0)
    assert value(found, "participation_ratio", "embed") == pytest.approx(100, abs=2)
    low, high = (value(found, "participation_ratio", "embed", c) for c in ("ci_low", "ci_high"))
    assert low < 100 < high


def test_batches_of_any_size_give_the_same(
    planted: dict[str, torch.Tensor], make_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(planted, group=groups(900))
    whole = measure(store).table
    monkeypatch.setattr(clouds_of, "BATCH_BYTES", 64 * 8 * 40)
    cut = measure(store).table
    numbers = ["value", "ci_low", "ci_high", "null_mean", "isotropic"]
    shown = whole["value"].abs() > 1e-6  # the plane's other directions are rounding
    kept = shown & ~whole["measure"].isin(["power_law", "cosine_centred_2", "cosine_centred_3"])
    np.testing.assert_allclose(
        whole.loc[kept, numbers].astype(float), cut.loc[kept, numbers].astype(float), rtol=1e-6
    )


def test_fewer_rows_than_features(make_store: Any) -> None:
    x = clouds.gaussian(60, clouds.power_law(90), mean=0.5)
    found = measure(make_store({"embed": x}, group=groups(60, 2)))
    rows = x.float().double().numpy()
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
    ratio = values.sum() ** 2 / (values**2).sum()
    assert value(found, "participation_ratio_raw", "embed") == pytest.approx(ratio, rel=1e-6)
    assert value(found, "participation_ratio", "embed") > 1.1 * ratio
    assert any("60 rows for 90 features: below ten rows a feature" in n for n in found.notes)
    assert any("fewer than 100 different rows" in note for note in found.notes)
    assert not len(found.measure("twonn"))
    assert "TwoNN" not in found.answer()


def test_left_out_eigenvalues_are_nearly_the_exact_ones(make_store: Any) -> None:
    x = clouds.gaussian(2000, clouds.power_law(12)) @ clouds.rotation(12)
    store = make_store({"embed": x})
    blocks = Blocks.of(np.arange(2000), most=10)
    found = clouds_of.cloud("embed", store["embed"], blocks, torch.device("cpu"))
    ratio = spectrum.participation_ratio(found.without_block).numpy()
    exact = []
    for block in range(10):
        kept = x[torch.from_numpy(blocks.number != block)].float().double()
        kept = kept - kept.mean(0)
        exact.append(float(spectrum.participation_ratio(torch.linalg.eigvalsh(kept.T @ kept))))
    np.testing.assert_allclose(ratio, exact, rtol=2e-3)
    assert np.corrcoef(ratio, exact)[0, 1] > 0.99


def test_intervals_cover_the_truth(make_store: Any) -> None:
    truth = float(spectrum.participation_ratio(clouds.power_law(20, 0.7)))
    covered = 0
    for seed in range(60):
        x = clouds.gaussian(300, clouds.power_law(20, 0.7), seed=seed)
        store = make_store({"embed": x})
        blocks = Blocks.of(np.arange(300), most=50)
        found = clouds_of.cloud("embed", store["embed"], blocks, torch.device("cpu"))
        nulls = Nulls(2, 0)
        line = spectral_lines(found, independent(found, nulls), nulls)[0]
        covered += line["ci_low"] < truth < line["ci_high"]
    assert 52 <= covered <= 60


def test_feature_order_changes_nothing(planted: dict[str, torch.Tensor], make_store: Any) -> None:
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    whole = measure(make_store(planted, group=groups(900)))
    moved = measure(make_store({s: x[:, order] for s, x in planted.items()}, group=groups(900)))
    for name in ("participation_ratio", "effective_rank", "twonn", "cosine", "cosine_without_3"):
        ours, theirs = whole.measure(name)["value"], moved.measure(name)["value"]
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-8)


def test_outlier_dimensions_are_named_and_taken_away(make_store: Any) -> None:
    x = clouds.gaussian(400, clouds.isotropic(64))
    x[:, 17] += 60
    found = measure(make_store({"embed": x}, group=groups(400)))
    outliers = found.table[found.table["measure"] == "outlier"]
    assert outliers["dimension"].iloc[0] == 17
    assert value(found, "cosine", "embed") > 0.95
    assert abs(value(found, "cosine_without_1", "embed")) < 0.02
    assert any("outlier dimensions 17" in note for note in found.notes)
    assert not any("massive" in note for note in found.notes)
    x[3, 40] = 3000
    found = measure(make_store({"embed": x}, group=groups(400)))
    assert any("massive activation at embed, dimension 40: 3e+03" in n for n in found.notes)


def test_duplicates_and_constant_sites_are_said(make_store: Any) -> None:
    x = clouds.gaussian(300, clouds.isotropic(8))
    x = torch.cat([x, x[:30]])
    found = measure(
        make_store({"embed": x, "blocks.0.resid_post": torch.ones(330, 8)}, group=groups(330))
    )
    assert any(
        "TwoNN leaves out rows that equal an earlier one: embed (30)" in n for n in found.notes
    )
    assert any(
        "blocks.0.resid_post: all rows are equal, so there is no spectrum" in n for n in found.notes
    )
    assert value(found, "cosine", "blocks.0.resid_post") == pytest.approx(1)
    assert found.figure().data
    assert "nan" not in found.answer()


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_equal_rows_everywhere_have_an_answer_and_a_figure(make_store: Any, fill: float) -> None:
    found = measure(make_store({"embed": torch.full((40, 6), fill)}, group=groups(40)))
    assert found.answer().startswith("All rows are equal, so they fill no dimension")
    assert "40 rows in 5 groups" in found.answer()
    assert any("embed: all rows are equal" in note for note in found.notes)
    assert len(found.figure().layout.annotations) > 0


def test_too_few_rows_have_no_headline(make_store: Any) -> None:
    x = clouds.gaussian(10, clouds.isotropic(64))
    few = measure(make_store({"embed": x}, group=["one sentence"] * 10))
    assert few.answer().startswith(
        "Too few rows to tell how many dimensions they fill (n = 10, D = 64)"
    )
    assert "articipation ratio" not in few.answer()
    both = {"embed": clouds.gaussian(80, clouds.isotropic(4)), "blocks.0.resid_post": clouds.gaussian(80, clouds.isotropic(100))}  # fmt: skip
    text = measure(make_store(both, group=groups(80))).answer()
    assert text.startswith("Participation ratio ")
    assert "too few rows to tell how many dimensions they fill at blocks.0.resid_post (n = 80, D = 100)" in text  # fmt: skip
    wide = measure(make_store({"embed": clouds.gaussian(900, clouds.isotropic(40))}, group=groups(900)))  # fmt: skip
    assert "too few rows" not in wide.answer()


def test_nan_is_reported_with_site_and_row(make_store: Any) -> None:
    x = clouds.gaussian(50, clouds.isotropic(4))
    x[7, 2] = float("nan")
    with pytest.raises(ValueError, match=r"embed: activations of 1 of 50 rows .* at row 7"):
        measure(make_store({"embed": x}))


def test_what_does_not_fit_is_refused(make_store: Any) -> None:
    store = make_store({"embed": torch.rand(4, 3)})
    with pytest.raises(ValueError, match="at least 5 rows, store0 has 4"):
        measure(store)
    with pytest.raises(ValueError, match="a store has its own rows"):
        geometry(store, ["a text"])
    with pytest.raises(LookupError, match="layer 3 is not in this store"):
        geometry(store, layer=3)


def test_one_group_has_no_interval(make_store: Any) -> None:
    found = measure(make_store({"embed": torch.rand(200, 4)}, group=["all"] * 200))
    assert found.measure("participation_ratio")["ci_low"].isna().all()
    assert any("a single group" in note for note in found.notes)
    assert "nan" not in found.answer()


def test_decimation_is_a_curve_over_rows(planted: dict[str, torch.Tensor], make_store: Any) -> None:
    found = measure(make_store(planted, group=groups(900)))
    scan = found.decimation(SITES[2])
    assert scan["n"].tolist() == [112, 225, 450, 900]
    assert scan["value"].iloc[-1] == value(found, "twonn", SITES[2])
    with pytest.raises(LookupError, match="no spectrum of 'nowhere'; there is one of embed"):
        found.spectrum("nowhere")


def test_a_model_with_its_twin(gpt2: Any, tokenizer: Any, sentences: list[str]) -> None:
    from layerscope.hooks.twin import untrained_twin

    both = geometry(gpt2, sentences * 3, twin=True, tokenizer=tokenizer, progress=False, seed=1)
    alone = geometry(
        untrained_twin(gpt2, seed=1), sentences * 3, tokenizer=tokenizer, progress=False, seed=1
    )
    for name in ("participation_ratio", "cosine"):
        ours, theirs = both.measure(name), alone.measure(name)
        np.testing.assert_allclose(ours["twin"], theirs["value"])
        np.testing.assert_allclose(ours["twin_low"], theirs["ci_low"])
    assert list(both.measure("cosine")["layer"]) == [-1, 0, 1, 2]


def test_the_finding_is_saved_whole_and_drawn(
    planted: dict[str, torch.Tensor], make_store: Any, tmp_path: Path
) -> None:
    found = measure(make_store(planted, group=groups(900)))
    again = Finding.load(found.save(tmp_path / "finding"))
    assert isinstance(again, GeometryFinding)
    assert again.answer() == found.answer()
    figure = again.figure()
    names = {trace.name for trace in figure.data}
    assert {"this model", "null: independent features", "mean taken off (cosine)"} <= names
    assert found.answer().startswith("Participation ratio from 2.0")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees(planted: dict[str, torch.Tensor], make_store: Any) -> None:
    del planted[SITES[2]]  # its other directions are rounding
    store = make_store(planted, group=groups(900))
    here, there = (measure(store, device=device).table for device in ("cpu", "cuda"))
    for column in ("value", "ci_low", "ci_high", "null_mean"):
        np.testing.assert_allclose(here[column], there[column], rtol=1e-3, atol=1e-6)


def test_trained_layers_fill_fewer_dimensions_than_untrained_ones(shared_data: Path) -> None:
    """gpt2_books_steps: training concentrates variance, and points rows the same way."""
    from layerscope.corpus import read

    corpus = read(shared_data / "ud_english_ewt" / "en_ewt-ud-dev.conllu").take(60)
    found = {}
    for step in (0, 2048):
        folder = shared_data / "gpt2_books_steps" / f"step{step}"
        from layerscope.hooks.load import load_model

        found[step] = geometry(load_model(folder), corpus, progress=False, neighbour_rows=500)
    first, last = (
        found[step].measure("participation_ratio")["value"].to_numpy() for step in (0, 2048)
    )
    assert (last < 0.75 * first).all()
    cosine = found[2048].measure("cosine")["value"].to_numpy()
    assert (cosine[1:] > 0.08).all()
    assert (np.abs(found[2048].measure("cosine_centred")["value"]) < 0.02).all()
