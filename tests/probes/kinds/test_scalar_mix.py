"""``probe(..., kind="scalar_mix")``: planted layers, comparisons, words, picture, faults, a real model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from layerscope.finding import Finding
from layerscope.planted.mixes import labelled_layer
from layerscope.probes.kinds import ScalarMix
from layerscope.probes.mixing.layer_mix_finding import LayerMixFinding
from layerscope.probes.probe import probe
from layerscope.probes.readouts.readout import Readout

ROWS, LAYERS, WIDTH = 600, 4, 6


@pytest.fixture
def store(make_store):
    stack, y = labelled_layer(ROWS, LAYERS, WIDTH, where=2)
    return make_store(
        {f"blocks.{i}.resid_post": layer for i, layer in enumerate(stack)},
        text=np.arange(ROWS) // 6,
        group=[f"g{i // 12}" for i in range(ROWS)],
        word=[f"w{i % 75}" for i in range(ROWS)],
        kind=["ab"[i] for i in y],
        size=stack[2, :, 1].double().numpy(),
    )


def test_weights_and_what_they_are_held_against(store) -> None:
    finding = probe(store, label="kind", kind="scalar_mix", progress=False)
    assert isinstance(finding, LayerMixFinding)
    layers = finding.table[finding.table["part"] == "layer"]
    assert layers["weight"].sum() == pytest.approx(1, abs=1e-6)
    assert layers["weight"].iloc[2] > 0.99
    assert (layers["weight_low"] <= layers["weight"]).all()
    assert (layers["weight"] <= layers["weight_high"]).all()
    np.testing.assert_allclose(layers["value"].iloc[[0, 1, 3]], 0.5, atol=0.08)
    parts = {name: finding.part(name) for name in ("mix", "best", "mean", "concat")}
    for name in ("mix", "best", "concat"):
        assert parts[name]["value"] == pytest.approx(0.977, abs=0.025), name
    # Four layers of unit variance: the gap of 4 standard deviations becomes about one.
    assert parts["mean"]["value"] < 0.9
    assert parts["mix"]["control"] < 0.65
    assert parts["mix"]["gain"] == pytest.approx(
        parts["mix"]["value"] - parts["best"]["value"], abs=1e-12
    )
    assert parts["mix"]["gain_low"] <= parts["mix"]["gain"] <= parts["mix"]["gain_high"]
    assert parts["mix"]["centre"] == pytest.approx(2.0, abs=0.02)
    assert parts["concat"]["width"] == LAYERS * WIDTH


def test_the_best_single_layer_is_chosen_on_other_folds(make_store) -> None:
    """Where no layer knows anything, the best of many is no better than a coin."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 300, 3, generator=generator)
    store = make_store(
        {f"blocks.{i}.resid_post": layer for i, layer in enumerate(x)},
        group=range(300),
        kind=["ab"[i % 2] for i in range(300)],
    )
    finding = probe(store, label="kind", kind=ScalarMix(concat=0), progress=False)
    layers = finding.table[finding.table["part"] == "layer"]
    assert finding.part("best")["value"] < layers["value"].max()
    assert finding.part("best")["value"] == pytest.approx(0.5, abs=0.07)
    assert "concat" not in set(finding.table["part"])


def test_numbers(store) -> None:
    finding = probe(store, label="size", kind="scalar_mix", progress=False)
    mix = finding.part("mix")
    assert (mix["unit"], mix["baseline"]) == ("R2", 0)
    assert mix["value"] > 0.97
    assert finding.table["weight"][2] > 0.95


def test_many_features_side_by_side_are_reduced(store) -> None:
    finding = probe(store, label="kind", kind=ScalarMix(concat=8), progress=False)
    assert finding.part("concat")["width"] == 8
    assert any("first 2 principal components" in note for note in finding.notes)


def test_words_and_picture(store, tmp_path) -> None:
    finding = probe(store, label="kind", kind="scalar_mix", twin=store, progress=False)
    answer = finding.answer()
    assert "kind is read mostly from blocks.2.resid_post (weight 1.00" in answer
    assert "equal would be 0.25, centre of gravity 2.00" in answer
    mix = finding.part("mix")
    for column in ("value", "ci_low", "baseline", "control", "twin"):
        assert f"{mix[column]:.3f}" in answer, column
    assert mix["twin"] == pytest.approx(mix["value"], abs=1e-12)
    named = [trace.name for trace in finding.figure().data if trace.name]
    assert named == [
        "one layer alone",
        "mix",
        "all layers side by side",
        "plain mean of layers",
        "mix, random labels",
        "mix, untrained twin",
    ]
    again = Finding.load(finding.save(tmp_path / "found"))
    assert again.answer() == answer
    assert again.figure().to_json() == finding.figure().to_json()


def test_the_readout_takes_stacked_layers(store, tmp_path) -> None:
    x = torch.stack([store[site][:] for site in store.sites], 1)
    y = store.rows["kind"].tolist()
    readout = ScalarMix().fit(x[:400], y[:400], sites=list(store.sites))
    assert readout.weights[2] > 0.99
    said = readout.predict(x[400:])
    assert np.mean([a == b for a, b in zip(said, y[400:], strict=True)]) > 0.94
    again = Readout.load(readout.save(tmp_path / "mix.safetensors"))
    assert torch.equal(again(x), readout(x))
    assert again.sites == readout.sites == tuple(store.sites)
    with pytest.raises(ValueError, match="trained on 4 layers"):
        readout(x[:, :3])


def test_one_layer_and_layers_of_different_widths_are_refused(store, make_store) -> None:
    with pytest.raises(ValueError, match=r"two layers or more, and blocks\.1\.resid_post is one"):
        probe(store, 1, label="kind", kind="scalar_mix", progress=False)
    y = ["ab"[i % 2] for i in range(40)]
    odd = make_store(
        {"embed": torch.ones(40, 2), "blocks.0.resid_post": torch.ones(40, 3)},
        group=range(40),
        kind=y,
    )
    with pytest.raises(ValueError, match=r"embed 2, blocks\.0\.resid_post 3"):
        probe(odd, label="kind", kind="scalar_mix", progress=False)


def test_nan_is_refused(make_store) -> None:
    stack, y = labelled_layer(60, 2, 3, where=0)
    stack[1, 30, 0] = torch.inf
    sites = {f"blocks.{i}.resid_post": layer for i, layer in enumerate(stack)}
    store = make_store(sites, group=range(60), kind=y.tolist())
    with pytest.raises(ValueError, match=r"blocks\.1\.resid_post: activations of 1 of 60 rows"):
        probe(store, label="kind", kind="scalar_mix", progress=False)


def test_word_classes_of_stories260k_are_read_in_the_middle(shared_data: Path) -> None:
    from layerscope.corpus import read
    from layerscope.hooks.load import load_model

    model = load_model(shared_data / "stories260K" / "hf")
    corpus = read(shared_data / "ud_english_ewt" / "en_ewt-ud-dev.conllu")
    finding = probe(
        model,
        "all",
        corpus,
        label="upos",
        kind=ScalarMix(concat=0),
        folds=3,
        control=False,
        max_rows=3000,
        progress=False,
    )
    weights = finding.table[finding.table["part"] == "layer"].set_index("site")["weight"]
    middle = ["blocks.1.resid_post", "blocks.2.resid_post", "blocks.3.resid_post"]
    assert weights[middle].sum() > 0.9
    assert weights["embed"] < 0.05
    assert finding.part("mix")["centre"] == pytest.approx(2.0, abs=0.3)
    assert finding.part("mix")["value"] > finding.part("best")["value"] - 0.01


def test_the_unit_of_a_number_does_not_matter(store, make_store) -> None:
    lines = []
    for unit in (1.0, 1e-4):
        scaled = make_store(
            {site: store[site][:] for site in store.sites},
            group=store.rows["group"].tolist(),
            size=(unit * store.rows["size"]).tolist(),
        )
        lines.append(probe(scaled, label="size", kind=ScalarMix(concat=0), progress=False))
    one, small = lines
    assert small.part("mix")["value"] == pytest.approx(one.part("mix")["value"], abs=1e-4)
    np.testing.assert_allclose(small.table["weight"][:4], one.table["weight"][:4], atol=1e-3)


def test_comparison_lines_learn_nothing_from_the_rows_they_are_tested_on(planned) -> None:
    """The plain mean and the components against features made fold by fold, by hand."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    from layerscope.probes.mixing.mix_trial import MixTrial
    from layerscope.probes.mixing.readings import Readings

    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (300,), generator=generator)
    stack = torch.randn(2, 300, 6, generator=generator)
    stack[1, :, 0] += 1.5 * (y - 0.5)
    stack[0, :60] *= 20  # the first fold is unlike the others
    readings = Readings(planned(y.numpy()), None)
    trial = MixTrial(readings, None, 4, False)

    def losses(make) -> np.ndarray:  # type: ignore[no-untyped-def,type-arg]
        parts = []
        for fold in range(5):
            held = np.arange(300) // 60 == fold
            x = torch.from_numpy(make(stack.double().numpy(), ~held)).float()
            parts.append(readings.read("by hand", x).losses[0].loss[held])
        return np.concatenate(parts)

    def mean(layers, train):  # type: ignore[no-untyped-def]
        return np.mean([StandardScaler().fit(x[train]).transform(x) for x in layers], 0)

    def components(layers, train):  # type: ignore[no-untyped-def]
        return np.concatenate([PCA(2).fit(x[train]).transform(x) for x in layers], 1)

    plain = trial._plain("mean", stack)
    np.testing.assert_array_equal(plain.losses[0].loss, losses(mean))
    assert plain.width == 6
    assert len(plain.penalties) == 5
    whole = trial._side_by_side(stack)
    np.testing.assert_array_equal(whole.losses[0].loss, losses(components))
    assert whole.width == 4


def test_the_readout_takes_the_penalty_that_folds_choose() -> None:
    """Few rows, many features, no label to find: the strongest penalty; a clear one: a weaker."""
    generator = torch.Generator().manual_seed(0)
    y = (torch.arange(120) % 2).tolist()
    noise = torch.randn(120, 3, 40, generator=generator)
    clear = torch.randn(120, 3, 2, generator=generator)
    clear[:, 1, 0] += 8 * (torch.tensor(y) - 0.5)
    assert ScalarMix().fit(noise, y).l2 == 1000
    assert ScalarMix().fit(clear, y).l2 == 1
    assert ScalarMix(l2=7.0).fit(clear, y).l2 == 7
    owners = np.arange(120) // 30
    with pytest.raises(ValueError, match="there are 4: use fewer folds"):
        ScalarMix().fit(clear, y, groups=owners)
    assert ScalarMix().fit(clear, y, groups=owners, folds=4).l2 == 1
    assert not ScalarMix().fit(clear, y, task="number").classes
    with pytest.raises(ValueError, match=r"\[rows, layers, width\] with one label a row"):
        ScalarMix().fit(clear, y[:-1])
