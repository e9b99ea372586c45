"""``probe(..., kind="ccs")``: pairs from columns, baselines, words, picture, faults, and a real model."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from layerscope.finding import Finding
from layerscope.planted.contrasts import ContrastPairs, contrast_pairs
from layerscope.probes.contrast.consistency_finding import ConsistencyFinding
from layerscope.probes.kinds import CCS
from layerscope.probes.probe import probe
from layerscope.probes.readouts.readout import Readout

PAIRS = 200


def columns(planted: ContrastPairs) -> dict[str, list]:
    """The two texts of a pair one after the other, each with its own truth."""
    truth = planted.truth.tolist()
    return {
        "text": range(2 * PAIRS),
        "pair": [i // 2 for i in range(2 * PAIRS)],
        "side": ["yes" if i % 2 == 0 else "no" for i in range(2 * PAIRS)],
        "true": [truth[i // 2] == (i % 2 == 0) for i in range(2 * PAIRS)],
        "group": [f"g{i // 4}" for i in range(2 * PAIRS)],
    }


def rows(planted: ContrastPairs) -> torch.Tensor:
    return torch.stack([planted.first, planted.second], 1).flatten(0, 1)


@pytest.fixture
def planted() -> ContrastPairs:
    return contrast_pairs(PAIRS, 8)


@pytest.fixture
def store(make_store, planted):
    loud = contrast_pairs(PAIRS, 8, distractor=3.0)
    loud = ContrastPairs(loud.first, loud.second, planted.truth, loud.distractor)
    sites = {"embed": torch.ones(2 * PAIRS, 8), "blocks.0.resid_post": rows(planted)}
    sites["blocks.1.resid_post"] = rows(loud)
    return make_store(sites, **columns(planted))


def test_a_line_for_each_site(store) -> None:
    finding = probe(store, label="true", kind="ccs", progress=False)
    assert isinstance(finding, ConsistencyFinding)
    same, found, fooled = (line for _, line in finding.table.iterrows())
    assert np.isnan(same["value"])
    assert found["value"] > 0.98
    assert fooled["value"] < 0.6
    assert found["supervised"] > 0.98
    assert fooled["supervised"] > 0.98
    assert found["uncentred"] < 0.6
    assert found["random"] < 0.75 < found["random_high"]
    # The larger of a and 1 - a over 200 pairs in 100 groups of two.
    assert found["null_mean"] == pytest.approx(0.53, abs=0.015)
    assert (found["n"], found["n_groups"], found["width"]) == (PAIRS, 100, 8)
    assert finding.best["site"] == "blocks.0.resid_post"
    assert any("at embed both sides have the same states" in note for note in finding.notes)


def test_the_search_says_its_loss(store) -> None:
    kind = CCS(method="search", restarts=2, epochs=300)
    line = probe(store, 0, label="true", kind=kind, progress=False).best
    assert line["value"] > 0.98
    assert 0 < line["loss"] < 0.3
    assert line["estimator"] == "contrast-consistent search"
    assert line["stability"] > 0.95


def test_one_label_for_the_pair_is_as_good_as_one_for_each_text(make_store, planted) -> None:
    given = columns(planted)
    each = make_store({"embed": rows(planted)}, **given)
    pair = [bool(planted.truth[i // 2]) for i in range(2 * PAIRS)]
    both = make_store({"embed": rows(planted)}, **given | {"true": pair})
    a, b = (probe(s, label="true", kind="ccs", progress=False).table for s in (each, both))
    assert a["value"].tolist() == b["value"].tolist()


def test_the_last_token_of_each_side_is_read(make_store, planted) -> None:
    given = columns(planted)
    texts = make_store({"embed": rows(planted)}, **given)
    noise = torch.full((2 * PAIRS, 8), 7.0)
    twice = {name: np.repeat(list(values), 2) for name, values in given.items()}
    tokens = make_store(
        {"embed": torch.stack([noise, rows(planted)], 1).flatten(0, 1)},
        **twice | {"position": [0, 1] * (2 * PAIRS)},
    )
    a, b = (probe(s, label="true", kind="ccs", progress=False).table for s in (texts, tokens))
    assert a["value"].tolist() == b["value"].tolist()


def test_words_and_picture(store, tmp_path) -> None:
    finding = probe(store, label="true", kind="ccs", twin=store, progress=False)
    answer, best = finding.answer(), finding.best
    assert answer.startswith("Found without labels, true is told best at blocks.0.resid_post")
    for column in ("value", "null_mean", "random", "uncentred", "supervised", "twin"):
        assert f"{best[column]:.3f}" in answer, column
    assert "200 pairs in 100 groups" in answer
    named = [trace.name for trace in finding.figure().data if trace.name]
    assert named == [
        "found without labels",
        "probe trained on the labels",
        "found in the untrained twin",
        "permuted labels",
    ]
    again = Finding.load(finding.save(tmp_path / "found"))
    assert again.answer() == answer
    assert again.figure().to_json() == finding.figure().to_json()


def test_the_notes_say_where_a_probe_with_labels_does_better(store) -> None:
    finding = probe(store, 1, label="true", kind="ccs", progress=False)
    said = " ".join(finding.notes)
    assert "not the most salient contrast" in said
    assert "no site is better than permuted labels" in said
    assert "'no' and 'yes', each read at the last row" in said


def test_the_readout_is_turned_by_the_labels_and_saved(planted, tmp_path) -> None:
    labels = ["true" if bit else "false" for bit in planted.truth]
    readout = CCS().fit(planted.first, planted.second, labels)
    difference = planted.first - planted.second
    said = readout.predict(difference)
    assert np.mean([a == b for a, b in zip(said, labels, strict=True)]) > 0.98
    upside_down = CCS().fit(planted.first, planted.second, labels[::-1][::-1])
    assert torch.equal(upside_down.weight, readout.weight)
    turned = CCS().fit(planted.second, planted.first, labels)
    assert torch.allclose(turned.directions[1], -readout.directions[1], atol=1e-5)
    again = Readout.load(readout.save(tmp_path / "truth.safetensors"))
    assert torch.equal(again(difference), readout(difference))
    assert CCS().fit(planted.first, planted.second).classes == ("one end", "other end")


def test_faults_say_what_is_wrong(make_store, planted) -> None:
    given = columns(planted)

    def run(**changed):
        made = make_store({"embed": rows(planted)}, **given | changed)
        return probe(made, label="true", kind="ccs", progress=False)

    made = make_store({"embed": rows(planted)}, **given)
    with pytest.raises(LookupError, match=r"no column 'couple' here; .*pair"):
        probe(made, label="true", kind=CCS(pair="couple"), progress=False)
    with pytest.raises(ValueError, match=r"must name the two sides.*it has 1: yes"):
        run(side=["yes"] * (2 * PAIRS))
    with pytest.raises(ValueError, match="has side 'yes' more than once"):
        run(pair=[i // 4 for i in range(2 * PAIRS)])
    with pytest.raises(ValueError, match="no pair has both sides, 'no' and 'yes'"):
        run(pair=list(range(2 * PAIRS)))
    with pytest.raises(ValueError, match=r"differs between the sides of .* pairs and not of 1"):
        run(true=[True, True, *given["true"][2:]])
    with pytest.raises(ValueError, match="kind='ccs' tells two classes apart, and true has 4"):
        run(true=[f"{i // 2 % 2}{i % 2}" for i in range(2 * PAIRS)])
    with pytest.raises(ValueError, match="method must be 'closed' or 'search', got 'open'"):
        CCS(method="open")  # type: ignore[arg-type]


def test_sides_without_a_partner_and_groups_that_part_them_are_noted(make_store, planted) -> None:
    given = columns(planted)
    made = make_store(
        {"embed": rows(planted)},
        **given
        | {
            "pair": [*given["pair"][:-2], 998, 999],
            "group": [f"{i}" for i in range(2 * PAIRS)],
        },
    )
    finding = probe(made, label="true", kind="ccs", progress=False)
    assert finding.best["n"] == PAIRS - 1
    assert finding.best["n_groups"] == PAIRS - 1
    assert any("2 of 201 pairs lack a side" in note for note in finding.notes)
    assert any("each pair is a group of its own" in note for note in finding.notes)


def test_nan_and_sides_that_are_the_same_everywhere_are_refused(make_store, planted) -> None:
    given, x = columns(planted), rows(planted)
    x[3, 0] = torch.nan
    with pytest.raises(ValueError, match=r"embed: activations of 1 of 200 rows.*row 3 of"):
        probe(make_store({"embed": x}, **given), label="true", kind="ccs", progress=False)
    flat = make_store({"embed": torch.ones(2 * PAIRS, 8)}, **given)
    with pytest.raises(ValueError, match="same states at all these sites"):
        probe(flat, label="true", kind="ccs", progress=False)


def test_in_a_real_model_number_is_found_where_grammar_was_asked_for(shared_data: Path) -> None:
    """BLiMP, reflexives: each pair is good and bad, and also plural and singular."""
    from layerscope.corpus import read
    from layerscope.hooks.load import load_model

    generator = np.random.default_rng(0)
    texts = []
    with gzip.open(shared_data / "blimp" / "blimp_half.tsv.gz", "rt") as file:
        for line in file:
            uid, _, _, pair, good, bad = line.rstrip("\n").split("\t")[:6]
            if uid != "anaphor_number_agreement" or int(pair) >= 400:
                continue
            flip = int(generator.integers(2))
            texts += [
                {
                    "text": text,
                    "pair": pair,
                    "side": "ab"[right ^ flip],
                    "grammatical": bool(right),
                    "plural": "themselves" in text,
                }
                for right, text in ((1, good), (0, bad))
            ]
    model = load_model(shared_data / "stories260K" / "hf")
    corpus = read(texts, name="reflexives")
    grammar, number = (
        probe(model, [1, 4], corpus, label=label, kind="ccs", progress=False).table
        for label in ("grammatical", "plural")
    )
    assert number["value"].min() > 0.98
    assert grammar["value"].max() < 0.58
    assert grammar["supervised"].max() > 0.7
