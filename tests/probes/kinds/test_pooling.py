"""``probe(..., kind="pooling")``: planted poolings, words, picture, faults, and a real model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from layerscope.finding import Finding
from layerscope.planted.mixes import labelled_mean
from layerscope.probes.kinds import Pooling
from layerscope.probes.mixing.pooling_finding import PoolingFinding
from layerscope.probes.probe import probe
from layerscope.probes.readouts.readout import Readout

TEXTS, TOKENS, WIDTH = 400, 17, 5


@pytest.fixture
def build(make_store):
    def make(**columns):
        x, text, y = labelled_mean([TOKENS] * TEXTS, WIDTH, shift=0.5)
        given = {"kind": ["ab"[y[t]] for t in text], "group": (text // 4).tolist()}
        return make_store(
            {"embed": torch.randn(x.shape, generator=torch.Generator().manual_seed(9)),
             "blocks.0.resid_post": x},
            text=text.numpy(),
            position=np.tile(np.arange(TOKENS), TEXTS),
            **given | columns,
        )  # fmt: skip

    return make


def test_the_mean_reads_what_the_last_token_does_not(build) -> None:
    finding = probe(build(), label="kind", kind="pooling", progress=False)
    assert isinstance(finding, PoolingFinding)
    table = finding.table.set_index(["site", "pooling"])
    planted = table.loc["blocks.0.resid_post"]
    # Phi(.5 * 16 / sqrt(17)) = .974
    assert planted.loc["mean", "value"] == pytest.approx(0.974, abs=0.025)
    assert planted.loc["last", "value"] == pytest.approx(0.5, abs=0.06)
    assert planted.loc["first", "value"] == pytest.approx(0.691, abs=0.06)  # Phi(.5)
    assert planted.loc["mean", "gain_low"] > 0.35
    assert planted.loc["mean", "gain"] == pytest.approx(
        planted.loc["mean", "value"] - planted.loc["last", "value"], abs=1e-12
    )
    assert (table.loc["embed", "value"] < 0.6).all()
    assert (table["control"] < 0.62).all()
    assert list(planted.index) == ["last", "mean", "max", "first", "last 4"]
    assert finding.best["pooling"] == "mean"
    assert (finding.best["n"], finding.best["n_groups"]) == (TEXTS, TEXTS // 4)


def test_the_control_keeps_a_label_of_the_group_whole(build) -> None:
    """Where a group has one label, so has it in the control: else leakage would look like skill."""
    from layerscope.probes.kinds.kind import Asked
    from layerscope.probes.kinds.pooling import _plan, _types
    from layerscope.probes.reading.texts import texts_of

    text = np.repeat(np.arange(TEXTS), TOKENS)
    by_group = build(kind=["ab"[t // 4 % 2] for t in text])
    chosen = _plan(texts_of(by_group, "kind"), Asked())
    assert (_types(chosen) == chosen.groups).all()
    chosen = _plan(texts_of(build(), "kind"), Asked())
    assert len(np.unique(_types(chosen))) == TEXTS


def test_words_and_picture(build, tmp_path) -> None:
    store = build()
    kind = Pooling(poolings=("last", "mean"))
    finding = probe(store, label="kind", kind=kind, twin=store, progress=False)
    answer, best = finding.answer(), finding.best
    assert "kind of a text is read best from mean at blocks.0.resid_post: accuracy" in answer
    for column in ("value", "ci_low", "baseline", "control", "twin"):
        assert f"{best[column]:.3f}" in answer, column
    assert "from the last token there (difference +" in answer
    assert best["twin"] == best["value"]
    named = [trace.name for trace in finding.figure().data if trace.name]
    assert named == ["last", "mean", "random labels", "majority class"]
    again = Finding.load(finding.save(tmp_path / "found"))
    assert again.answer() == answer
    assert again.figure().to_json() == finding.figure().to_json()


def test_a_number_of_a_text(build) -> None:
    size = np.repeat(np.random.default_rng(0).normal(size=TEXTS), TOKENS)
    kind = Pooling(poolings=("mean",))
    finding = probe(build(size=size), 0, label="size", kind=kind, progress=False)
    assert finding.best["unit"] == "R2"
    assert finding.best["value"] == pytest.approx(0, abs=0.05)
    assert "gain" not in finding.table


def test_the_readout_pools_and_reads(build, tmp_path) -> None:
    store = build()
    readout = Pooling(tail=3).fit(store, 0, "kind", pooling="mean")
    assert (readout.site, readout.label) == ("blocks.0.resid_post", "kind")
    x = store["blocks.0.resid_post"][:].view(TEXTS, TOKENS, WIDTH)
    truth = store.rows["kind"].to_numpy()[::TOKENS]
    assert np.mean(np.array(readout.predict(x)) == truth) > 0.95
    again = Readout.load(readout.save(tmp_path / "pooled.safetensors"))
    assert torch.equal(again(x), readout(x))
    for pooling, wanted in (
        ("last", x[:, -1]),
        ("first", x[:, 0]),
        ("max", x.amax(1)),
        ("tail", x[:, -3:].mean(1)),
    ):
        other = Pooling(tail=3).fit(store, 0, "kind", pooling=pooling)
        assert torch.equal(other.pool(x), wanted)
        linear = (wanted - other.mean) / other.scale @ other.weight.T + other.bias
        torch.testing.assert_close(other(x), linear)
    with pytest.raises(ValueError, match="give the tokens of a text"):
        readout(torch.zeros(WIDTH))


def test_faults_say_what_is_wrong(build, make_store) -> None:
    with pytest.raises(ValueError, match=r"poolings are some of last, mean.*got \('eos',\)"):
        Pooling(poolings=("eos",))
    with pytest.raises(ValueError, match="tail must be at least 1, got 0"):
        Pooling(tail=0)
    single = make_store(
        {"embed": torch.ones(20, 2)}, group=range(20), kind=["ab"[i % 2] for i in range(20)]
    )
    with pytest.raises(ValueError, match="nothing to pool; extract rows='tokens'"):
        probe(single, label="kind", kind="pooling", progress=False)
    words = build(kind=["ab"[i % 2] for i in range(TEXTS * TOKENS)])
    with pytest.raises(ValueError, match="it belongs to words"):
        probe(words, label="kind", kind="pooling", progress=False)


def test_few_texts_for_many_features_are_noted_and_nan_is_refused(make_store) -> None:
    x = torch.randn(60, 20, generator=torch.Generator().manual_seed(0))
    columns = {"text": np.arange(60) // 2, "position": np.arange(60) % 2}
    columns |= {"group": np.arange(60) // 2, "kind": [list("ab")[i // 2 % 2] for i in range(60)]}
    kind = Pooling(poolings=("mean", "last"))
    found = probe(make_store({"embed": x}, **columns), label="kind", kind=kind, progress=False)
    assert any("24 training texts for 20 features" in note for note in found.notes)
    found = probe(
        make_store({"embed": x}, **columns), label="kind", kind=kind, folds=3, progress=False
    )
    assert any("20 training texts for 20 features" in note for note in found.notes)
    x[33, 2] = torch.nan
    with pytest.raises(ValueError, match=r"embed: activations of 1 of 60 rows.*row 33"):
        probe(make_store({"embed": x}, **columns), label="kind", kind=kind, progress=False)


def test_authors_of_passages_by_stories260k(shared_data: Path) -> None:
    """Who wrote thirty words: the mean of the tokens says more than the last one."""
    from layerscope.corpus import read
    from layerscope.hooks.load import load_model

    texts = []
    for author in ("bronte", "darwin", "dubois"):
        words = (shared_data / "text_books" / f"{author}.txt").read_text()[50_000:].split()
        texts += [
            {"text": " ".join(words[i * 30 : i * 30 + 30]), "author": author, "part": f"{author}{i // 10}"}
            for i in range(120)
        ]  # fmt: skip
    model = load_model(shared_data / "stories260K" / "hf")
    kind = Pooling(poolings=("last", "mean"))
    finding = probe(
        model, [1, 4], read(texts, group="part"), label="author", kind=kind, progress=False
    )
    value = finding.table.set_index(["layer", "pooling"])["value"]
    assert value[1, "mean"] > value[1, "last"] + 0.15
    assert value[1, "mean"] > 0.65
    assert (finding.table["control"] < 0.5).all()


def test_four_groups_are_frozen_with_four_folds(build) -> None:
    store = build(group=(np.repeat(np.arange(TEXTS), TOKENS) % 4).tolist())
    with pytest.raises(ValueError, match="5 folds need at least 5 groups"):
        Pooling().fit(store, 0, "kind")
    assert Pooling().fit(store, 0, "kind", folds=4).classes == ("a", "b")


def test_numbers_are_frozen_as_what_they_are_asked_for(build) -> None:
    store = build(size=np.repeat(np.arange(TEXTS) % 3, TOKENS).tolist())
    assert Pooling().fit(store, 0, "size").classes == (0, 1, 2)
    assert not Pooling().fit(store, 0, "size", task="number").classes
