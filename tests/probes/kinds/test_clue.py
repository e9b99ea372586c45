"""``probe(..., kind="clue")``: traces from a store, marks, length, reranking, words, faults."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.corpus import read
from layerscope.finding import Finding
from layerscope.hooks.extract import extract
from layerscope.planted.contrasts import trace_deltas
from layerscope.probes.contrast.centroids import distances
from layerscope.probes.contrast.clue_finding import ClueFinding
from layerscope.probes.kinds import CLUE
from layerscope.probes.probe import probe
from layerscope.probes.readouts.readout import Readout

TRACES, LAYERS, WIDTH, SAMPLES = 320, 3, 16, 8


@pytest.fixture
def planted() -> tuple[torch.Tensor, torch.Tensor]:
    return trace_deltas(TRACES, LAYERS, WIDTH, gap=1.5, seed=0)


@pytest.fixture
def build(make_store, planted):
    """Traces of 3 to 5 rows whose last minus first row is the planted delta."""

    def make(deltas: torch.Tensor = planted[0], **columns):
        generator = torch.Generator().manual_seed(1)
        lengths = 3 + np.arange(TRACES) % 3
        text = np.repeat(np.arange(TRACES), lengths)
        position = np.concatenate([np.arange(n) for n in lengths])
        last = np.flatnonzero(np.append(np.diff(text) != 0, True))
        first = np.append(0, last[:-1] + 1)
        sites = {}
        for layer in range(LAYERS):
            x = torch.randn(len(text), WIDTH, generator=generator)
            x[last] = x[first] + deltas[:, layer]
            sites[f"blocks.{layer}.resid_post"] = x
        per_text = {"correct": planted[1].tolist(), "group": np.arange(TRACES) // SAMPLES} | columns
        shown = {name: [list(values)[t] for t in text] for name, values in per_text.items()}
        return make_store(sites, text=text, position=position, **shown)

    return make


def test_layers_and_all_of_them(build, planted) -> None:
    finding = probe(build(), label="correct", kind="clue", progress=False)
    assert isinstance(finding, ClueFinding)
    layers = finding.table[finding.table["part"] == "layer"]
    assert list(layers["layer"]) == [0, 1, 2]
    deltas, correct = planted
    groups = np.arange(TRACES) // SAMPLES
    wanted = distances(deltas, correct.numpy(), groups)
    whole = finding.whole
    assert whole["value"] == ((wanted.score() > 0) == correct).double().mean().item()
    for layer, value in enumerate(layers["value"]):
        share = [float(layer == other) for other in range(LAYERS)]
        assert value == ((wanted.score(share) > 0) == correct).double().mean().item()
    assert whole["value"] > layers["value"].max()
    assert whole["value"] > 0.8
    assert whole["ci_low"] < whole["value"] < whole["ci_high"]
    assert whole["null_mean"] == pytest.approx(0.5, abs=0.05)
    assert whole["length"] == pytest.approx(0.5, abs=0.08)
    assert whole["auc"] > 0.88
    assert whole["auc_problem"] > 0.88
    assert whole["auc_length"] > 0.88
    assert (whole["n"], whole["n_groups"]) == (TRACES, TRACES // SAMPLES)
    assert any("labels permuted within problems" in note for note in finding.notes)


def test_nothing_is_found_where_nothing_is(build) -> None:
    deltas, _ = trace_deltas(TRACES, LAYERS, WIDTH, gap=0.0, seed=5)
    whole = probe(build(deltas), label="correct", kind="clue", progress=False).whole
    assert abs(whole["value"] - whole["null_mean"]) < 3 * whole["null_sd"] + 0.03


def test_length_alone_is_reported_where_it_tells_correct_from_wrong(make_store, planted) -> None:
    correct = planted[1].numpy()
    lengths = np.where(correct, 3, 6)
    text = np.repeat(np.arange(TRACES), lengths)
    x = torch.randn(len(text), 4, generator=torch.Generator().manual_seed(0))
    made = make_store(
        {"blocks.0.resid_post": x},
        text=text,
        position=np.concatenate([np.arange(n) for n in lengths]),
        correct=correct[text],
        group=text // SAMPLES,
    )
    finding = probe(made, label="correct", kind="clue", progress=False)
    assert finding.whole["length"] == 1.0
    assert finding.whole["length_auc"] == 1.0
    assert np.isnan(finding.whole["auc_length"])  # no two of one length differ
    assert any("the length of a trace alone scores 1.000" in note for note in finding.notes)


def test_voting_among_the_best_traces_solves_more_problems(build, planted) -> None:
    correct = planted[1].numpy()
    generator = np.random.default_rng(0)
    # Wrong traces of a problem agree on one wrong answer.
    answer = np.where(correct, "right", generator.choice(["w1", "w2"], TRACES, p=[0.9, 0.1]))
    finding = probe(build(answer=answer), label="correct", kind="clue", progress=False)
    votes = finding.table[finding.table["part"] == "rerank"].set_index("k")
    assert list(votes.index) == [1, 2, 4, 8]
    assert votes.loc[4, "value"] > votes.loc[4, "baseline"] + 0.1
    assert votes.loc[8, "value"] == pytest.approx(votes.loc[8, "baseline"], abs=0.1)
    assert votes["single"].iloc[0] == pytest.approx(correct.mean(), abs=1e-9)
    assert (votes["oracle"] >= votes["value"]).all()
    assert votes["unit"].unique().tolist() == ["problems solved"]
    assert "best traces of each problem solves" in finding.answer()


def test_words_and_picture(build, tmp_path) -> None:
    store = build()
    finding = probe(store, label="correct", kind="clue", twin=store, progress=False)
    answer = finding.answer()
    assert "correct by nearest centroid over 3 layers: accuracy" in answer
    for column in ("value", "null_mean", "baseline", "length", "twin"):
        assert f"{finding.whole[column]:.3f}" in answer, column
    figure = finding.figure()
    assert list(figure.layout.xaxis.ticktext) == ["0", "1", "2", "all"]
    named = [trace.name for trace in figure.data if trace.name]
    assert named == [
        "nearest centroid",
        "length of the trace alone",
        "untrained twin",
        "permuted labels",
    ]
    again = Finding.load(finding.save(tmp_path / "found"))
    assert again.answer() == answer
    assert again.figure().to_json() == figure.to_json()


def test_options_reach_the_distances(build, planted) -> None:
    deltas, correct = planted
    groups = np.arange(TRACES) // SAMPLES
    for options in ({"metric": "cosine"}, {"normalise": True}):
        wanted = distances(deltas, correct.numpy(), groups, **options)
        found = probe(build(), label="correct", kind=CLUE(**options), progress=False).whole  # type: ignore[arg-type]
        assert found["value"] == ((wanted.score() > 0) == correct).double().mean().item()
    weighted = probe(build(), label="correct", kind=CLUE(weights=(0, 1, 0)), progress=False)
    assert weighted.whole["value"] == weighted.table["value"][1]
    even = probe(build(), label="correct", kind=CLUE(balance=True), progress=False)
    assert even.whole["value"] > 0.75
    with pytest.raises(ValueError, match="metric must be"):
        CLUE(metric="city")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="score must be"):
        CLUE(score="loud")  # type: ignore[arg-type]


def test_the_frozen_centroids_judge_new_traces(build, planted, tmp_path) -> None:
    deltas, traces = CLUE().deltas(build(), "correct")
    assert deltas.shape == (TRACES, LAYERS, WIDTH)
    torch.testing.assert_close(deltas, planted[0][traces.plan.index], atol=1e-5, rtol=0)
    readout = CLUE(normalise=True).fit(deltas, traces.correct)
    # The axes are drawn first, so they are the same for more traces.
    fresh, truth = (x[TRACES:] for x in trace_deltas(2 * TRACES, LAYERS, WIDTH, gap=1.5, seed=0))
    said = readout.predict(fresh)
    assert np.mean(np.array(said) == truth.numpy()) > 0.85
    scores = readout(fresh[:5])
    for row in range(5):
        for number in (0, 1):
            far = [
                (fresh[row, layer] - readout.centroids[layer, number]).norm() / readout.scale[layer]
                for layer in range(LAYERS)
            ]
            assert scores[row, number].item() == pytest.approx(-float(sum(far)) / 3, rel=1e-5)
    again = Readout.load(readout.save(tmp_path / "clue.safetensors"))
    assert torch.equal(again(fresh), readout(fresh))
    with pytest.raises(ValueError, match="trained on 3 layers"):
        readout(fresh[:, :2])
    with pytest.raises(ValueError, match="two values, one per trace"):
        CLUE().fit(deltas, [True, False, True])


def test_which_side_of_the_frozen_centroids_is_correct(planted) -> None:
    deltas, correct = planted[0], planted[1].bool()
    by_truth = CLUE(balance=True).fit(deltas, correct)
    assert by_truth.classes == (False, True)
    named = ["right" if one else "wrong" for one in correct.tolist()]
    for kind in (CLUE(balance=True), CLUE(balance=True, correct="right")):
        readout = kind.fit(deltas, named)
        assert readout.classes == ("wrong", "right")
        assert torch.equal(readout.centroids, by_truth.centroids)
    assert CLUE(correct=0).fit(deltas, correct.int().tolist()).classes == (1, 0)
    with pytest.raises(ValueError, match="which label means correct, 'ape' or 'bear'"):
        CLUE().fit(deltas, ["bear" if one else "ape" for one in correct.tolist()])
    with pytest.raises(ValueError, match="correct='yes', but label is 'right' or 'wrong'"):
        CLUE(correct="yes").fit(deltas, named)


def test_marks_in_the_text_say_where_a_trace_starts_and_ends(gpt2, tokenizer) -> None:
    texts = [
        {
            "text": f"question {i} <think> a dog barks {i} </think> yes",
            "ok": i % 2 == 0,
            "problem": i // 2,
        }
        for i in range(20)
    ]
    texts.append({"text": "no marks here", "ok": True, "problem": 99})
    corpus = read(texts, group="problem")
    store = extract(gpt2, corpus, "all", tokenizer=tokenizer, progress=False)
    kind = CLUE(between=("<think>", "</think>"))
    deltas, traces = kind.deltas(store, "ok")
    assert deltas.shape == (20, 3, 16)
    rows = store.rows
    for start, end in zip(traces.start, traces.end, strict=True):
        content = store.texts[rows["text"][start]]
        assert content[: rows["char_end"][start]].endswith("<think>")
        assert content[: rows["char_end"][end]].endswith("</think>")
        assert rows["text"][start] == rows["text"][end]
    assert any("1 of 21 texts lack '<think>'" in note for note in traces.plan.notes)
    with pytest.raises(ValueError, match="no text has rows at '<plan>'"):
        CLUE(between=("<plan>", "</plan>")).deltas(store, "ok")


def test_marks_that_are_single_tokens_of_a_store_without_places(make_store) -> None:
    tokens = ["q", "<t>", "a", "b", "</t>", "c"] * 12
    x = torch.randn(72, 3, generator=torch.Generator().manual_seed(0))
    made = make_store(
        {"embed": x},
        text=np.arange(72) // 6,
        position=np.arange(72) % 6,
        token=tokens,
        ok=(np.arange(72) // 6) % 2,
        group=np.arange(72) // 12,
    )
    _, traces = CLUE(between=("<t>", "</t>")).deltas(made, "ok", "embed")
    assert set(traces.start % 6) == {1}
    assert set(traces.end % 6) == {4}


def test_faults_say_what_is_wrong(build, make_store) -> None:
    two = build(kind=["ab"[i % 2] for i in range(TRACES)])
    with pytest.raises(ValueError, match="which kind means correct, 'a' or 'b'"):
        probe(two, label="kind", kind="clue", progress=False)
    with pytest.raises(ValueError, match="correct='c', but kind is 'a' or 'b'"):
        probe(two, label="kind", kind=CLUE(correct="c"), progress=False)
    three = build(kind=["abc"[i % 3] for i in range(TRACES)])
    with pytest.raises(ValueError, match="kind='clue' tells two classes apart, and kind has 3"):
        probe(three, label="kind", kind="clue", progress=False)
    single = make_store({"embed": torch.ones(20, 2)}, group=range(20), ok=[0, 1] * 10)
    with pytest.raises(ValueError, match="every text has a single row"):
        probe(single, label="ok", kind="clue", progress=False)
    words = make_store(
        {"embed": torch.ones(20, 2)}, text=np.arange(20) // 2, group=range(20), ok=[0, 1] * 10
    )
    with pytest.raises(ValueError, match="it belongs to words"):
        probe(words, label="ok", kind="clue", progress=False)


def test_traces_without_problems_are_noted(build) -> None:
    finding = probe(build(group=range(TRACES)), label="correct", kind="clue", progress=False)
    assert any("every trace is a group of its own" in note for note in finding.notes)
    assert any("labels permuted over all traces" in note for note in finding.notes)


def test_a_layer_where_all_traces_change_alike_tells_nothing(build, planted) -> None:
    deltas = planted[0].clone()
    deltas[:, 0] = 0
    finding = probe(build(deltas.round(decimals=3)), label="correct", kind="clue", progress=False)
    first = finding.table[finding.table["layer"] == 0].iloc[0]
    assert np.isnan(first["value"])
    assert finding.best["layer"] != 0
    assert any("at blocks.0.resid_post all traces change alike" in n for n in finding.notes)


def test_uneven_sides_are_noted_and_can_be_evened(build) -> None:
    correct = np.arange(TRACES) % SAMPLES != 0
    finding = probe(build(correct=correct), label="correct", kind="clue", progress=False)
    assert any("88% of the traces are correct" in note for note in finding.notes)
    # The centroid of few traces is far from everything, even for labels that mean nothing.
    even = probe(build(correct=correct), label="correct", kind=CLUE(balance=True), progress=False)
    assert finding.whole["null_mean"] > even.whole["null_mean"] + 0.1
    assert not any("of the traces are correct" in note for note in even.notes)


def test_nan_is_refused(build, planted) -> None:
    deltas = planted[0].clone()
    deltas[7, 1, 0] = torch.nan
    with pytest.raises(ValueError, match=r"blocks\.1\.resid_post: activations of 1 of 320 rows"):
        probe(build(deltas), label="correct", kind="clue", progress=False)


def test_four_problems_are_frozen_with_four_folds(build) -> None:
    store = build(group=np.arange(TRACES) // (TRACES // 4))
    with pytest.raises(ValueError, match="5 folds need at least 5 groups"):
        CLUE().deltas(store, "correct")
    deltas, traces = CLUE().deltas(store, "correct", folds=4)
    assert len(deltas) == TRACES
    assert len(np.unique(traces.plan.groups)) == 4


def test_zeros_and_ones_that_some_rows_lack_are_known(build) -> None:
    """A column with gaps arrives as 0.0 and 1.0."""
    truth = [None if i < SAMPLES else float(i % 2) for i in range(TRACES)]
    _, traces = CLUE().deltas(build(correct=truth), "correct")
    assert len(traces.correct) == TRACES - SAMPLES
    assert traces.plan.classes == (0.0, 1.0)
    assert (traces.correct == (traces.plan.values == 1)).all()


@pytest.mark.parametrize("kind", [CLUE(), CLUE(balance=True)])
def test_permuted_labels_that_leave_no_centroid_are_drawn_again(build, kind, monkeypatch) -> None:
    """Three correct traces, and one problem of 250: half of the permutations put all three there."""
    group = np.maximum(0, (np.arange(TRACES) - 240) // 10)
    correct = np.isin(np.arange(TRACES), (260, 280, 300))
    store = build(correct=correct, group=group)
    finding = probe(store, label="correct", kind=kind, folds=3, progress=False)
    assert any("labels permuted over all traces" in note for note in finding.notes)
    assert 0 <= finding.whole["null_mean"] <= 1
    monkeypatch.setattr("layerscope.probes.contrast.clue_trial._DRAWS", 1)
    with pytest.raises(ValueError, match="in each of 1 permutations of the labels"):
        probe(store, label="correct", kind=kind, folds=3, progress=False)


def test_few_traces_that_balance_draws_from_one_problem_are_drawn_again(build) -> None:
    """The error that all wrong traces belong to one problem would be untrue."""
    correct = np.isin(np.arange(TRACES), (0, 130, 250))
    store = build(correct=correct, group=np.arange(TRACES) // (TRACES // 3))
    for seed in range(6):
        finding = probe(
            store, label="correct", kind=CLUE(balance=True), folds=3, seed=seed, progress=False
        )
        assert 0 <= finding.whole["value"] <= 1
