"""`probe(kind="structural")`: the plant is found exactly, and what is no tree is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from layerscope.finding import Finding
from layerscope.planted.trees import DependencyPlant, dependency_plant
from layerscope.probes.kinds import Structural, as_kind
from layerscope.probes.probe import probe
from layerscope.probes.readouts.readout import Readout
from layerscope.probes.readouts.structural import StructuralReadout
from layerscope.probes.trees.dependency import forest
from layerscope.probes.trees.structural_controls import chain_scores, control_forest


def columns(plant: DependencyPlant, groups: int = 30) -> dict[str, object]:
    lengths = [len(tree) for tree in plant.heads]
    text = np.repeat(np.arange(len(lengths)), lengths)
    return {
        "text": text,
        "group": [f"g{number % groups}" for number in text],
        "word_index": np.concatenate([np.arange(length) for length in lengths]),
        "word": [f"w{i}" for i in range(len(text))],
        "head": np.concatenate([tree + 1 for tree in plant.heads]),
    }


@pytest.fixture(scope="module")
def plant() -> DependencyPlant:
    return dependency_plant(200)


def measured(store, **options):  # type: ignore[no-untyped-def]
    options = {"kind": "structural", "folds": 3, "progress": False, "device": "cpu"} | options
    return probe(store, "all", **options)


def values(finding, column="value"):  # type: ignore[no-untyped-def]
    lines = finding.table[finding.table["part"] == "score"]
    return dict(zip(lines["measure"], lines[column], strict=True))


def test_the_plant_is_found_exactly(make_store, plant: DependencyPlant) -> None:  # type: ignore[no-untyped-def]
    store = make_store({"blocks.0.resid_post": plant.x}, **columns(plant))
    finding = measured(store, folds=5)
    found = values(finding)
    assert (found["uuas"], found["root"]) == (1, 1)
    assert found["dspr"] == pytest.approx(1, abs=1e-12)
    assert values(finding, "identity")["uuas"] == pytest.approx(0.20, abs=0.03)
    assert values(finding, "control")["uuas"] < 0.35
    assert values(finding, "ci_low")["uuas"] == 1
    assert "1.000 of their edges" in finding.answer()
    words = finding.table[finding.table["part"] == "word"]
    assert list(words["head"]) == list(words["found_head"])
    assert finding.figure().data


def test_a_rotation_of_the_activations_changes_nothing(make_store) -> None:  # type: ignore[no-untyped-def]
    """Least squares in principal components; descent would differ in the last digits."""
    plant = dependency_plant(80, seed=2)
    x = plant.x + 0.5 * torch.randn(plant.x.shape, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(48, 48, generator=torch.Generator().manual_seed(1)))[0]
    kind = Structural(epochs=0)
    sites = {"blocks.0.resid_post": x, "blocks.1.resid_post": x @ turn}
    table = measured(make_store(sites, **columns(plant)), kind=kind, control=False).table
    scores = table[table["part"] == "score"].pivot(index="measure", columns="site", values="value")
    assert scores.iloc[:, 0].between(0.05, 0.999).all()
    np.testing.assert_allclose(scores.iloc[:, 0], scores.iloc[:, 1], atol=0.01)


def test_the_order_of_texts_and_pieces_of_words_change_nothing(make_store) -> None:  # type: ignore[no-untyped-def]
    """Two rows a word whose mean is the word, texts in another order of rows."""
    plant = dependency_plant(60, seed=3)
    own = columns(plant)
    noise = torch.randn(plant.x.shape, generator=torch.Generator().manual_seed(0))
    doubled = torch.stack([plant.x + noise, plant.x - noise], dim=1).flatten(0, 1)
    twice = {name: np.repeat(np.asarray(column), 2) for name, column in own.items()}
    order = np.argsort(-twice["text"], kind="stable")
    pieces = make_store(
        {"blocks.0.resid_post": doubled[torch.from_numpy(order)]},
        **{name: column[order] for name, column in twice.items()},
    )
    whole = make_store({"blocks.0.resid_post": plant.x}, **own)
    read = forest(pieces, max_words=9999, seed=0).words.read(pieces, "blocks.0.resid_post")
    torch.testing.assert_close(read, plant.x, atol=1e-5, rtol=1e-5)
    kind = Structural(epochs=0)
    one, other = (values(measured(s, kind=kind, control=False)) for s in (whole, pieces))
    for measure, value in one.items():
        assert other[measure] == pytest.approx(value, abs=0.02)


def test_what_is_no_tree_is_counted_and_left_out(make_store, plant: DependencyPlant) -> None:  # type: ignore[no-untyped-def]
    own = columns(plant)
    text, head = np.asarray(own["text"]), np.array(own["head"])
    rows = [np.flatnonzero(text == number) for number in range(4)]
    head[rows[0]] = 0  # several roots
    head[rows[1]] = np.roll(np.arange(1, len(rows[1]) + 1), 1)  # a circle without a root
    head[rows[2][0]] = 99
    kept = np.ones(len(text), dtype=bool)
    kept[rows[3][0]] = False  # a word missing
    store = make_store(
        {"blocks.0.resid_post": plant.x[torch.from_numpy(kept)]},
        **{name: np.asarray(column)[kept] for name, column in (own | {"head": head}).items()},
    )
    finding = measured(store, control=False)
    assert any("4 of 200 sentences left out" in note for note in finding.notes)
    (note,) = (note for note in finding.notes if "left out" in note)
    for reason in (
        "several roots (1)",
        "no root (1)",
        "a head that is not there (1)",
        "words missing",
    ):
        assert reason in note
    assert values(finding, "n")["uuas"] == 196
    assert values(finding)["uuas"] == 1


def test_no_tree_at_all_is_refused(make_store, plant: DependencyPlant) -> None:  # type: ignore[no-untyped-def]
    own = columns(plant) | {"head": np.zeros(len(plant.x), dtype=int)}
    store = make_store({"blocks.0.resid_post": plant.x}, **own)
    with pytest.raises(
        ValueError, match=r"no sentence with a tree among 200: .*several roots \(200\)"
    ):
        measured(store)


def test_refused_stores(make_store, plant: DependencyPlant) -> None:  # type: ignore[no-untyped-def]
    own = columns(plant)
    x = {"blocks.0.resid_post": plant.x}
    without = {name: column for name, column in own.items() if name != "head"}
    with pytest.raises(
        LookupError, match=r"a label 'head' for each word .* as CoNLL-U files have; .*: 'word'"
    ):
        measured(make_store(x, **without))
    without = {name: column for name, column in own.items() if name != "word_index"}
    with pytest.raises(ValueError, match="need rows of words: extract again with rows='words'"):
        measured(make_store(x, **without))
    with pytest.raises(ValueError, match="31 folds need at least 31 groups"):
        measured(make_store(x, **own), folds=31)
    with pytest.raises(ValueError, match="folds must be at least 3"):
        measured(make_store(x, **own), folds=2)
    bad = plant.x.clone()
    bad[7, 3] = float("nan")
    with pytest.raises(ValueError, match=r"blocks.0.resid_post: .*the first at row 7"):
        measured(make_store({"blocks.0.resid_post": bad}, **own))
    with pytest.raises(ValueError, match="same activations"):
        measured(make_store({"blocks.0.resid_post": torch.zeros_like(plant.x)}, **own))
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        Structural(rank=0)


def test_max_rows_takes_whole_sentences(make_store, plant: DependencyPlant) -> None:  # type: ignore[no-untyped-def]
    store = make_store({"blocks.0.resid_post": plant.x}, **columns(plant))
    trees = forest(store, max_words=500, seed=0)
    assert trees.words.starts[-1] <= 500
    assert any("drawn at random" in note for note in trees.notes)
    x = trees.words.read(store, "blocks.0.resid_post")
    for number, text in enumerate(trees.words.texts[:5]):
        a, b = trees.words.starts[number : number + 2]
        own = plant.heads[text]
        np.testing.assert_array_equal(trees.heads[number], own)
        far = ((x[a:b, None] - x[None, a:b]) @ plant.probe.T).square().sum(-1)
        np.testing.assert_allclose(far.numpy(), trees.distances[number], atol=1e-3)


def test_the_control_has_one_tree_a_length_of_the_usual_shapes(
    make_store, plant: DependencyPlant
) -> None:  # type: ignore[no-untyped-def]
    store = make_store({"blocks.0.resid_post": plant.x}, **columns(plant))
    trees = forest(store, max_words=50_000, seed=0)
    control = control_forest(trees, seed=0)
    by_length: dict[int, set[tuple[int, ...]]] = {}
    for heads in control.heads:
        by_length.setdefault(len(heads), set()).add(tuple(heads.tolist()))
    assert all(len(kinds) == 1 for kinds in by_length.values())
    assert all(
        (np.sort(control.depths[i]) == np.sort(trees.depths[j])).all()
        for i in range(3)
        for j in range(len(trees))
        if trees.heads[j].shape == control.heads[i].shape
        and sorted(np.bincount(trees.heads[j] + 1)) == sorted(np.bincount(control.heads[i] + 1))
        and sorted(trees.depths[j]) == sorted(control.depths[i])
    )
    assert not np.array_equal(
        np.concatenate(control.heads), np.concatenate(control_forest(trees, seed=1).heads)
    )


def test_the_chain_of_chains_is_perfect(make_store) -> None:  # type: ignore[no-untyped-def]
    plant = dependency_plant(20)
    heads = tuple(np.arange(len(tree)) - 1 for tree in plant.heads)
    own = columns(DependencyPlant(plant.x, heads, plant.probe))
    trees = forest(make_store({"blocks.0.resid_post": plant.x}, **own), max_words=9999, seed=0)
    assert [chain_scores(trees).value(m) for m in ("uuas", "root")] == [1, 1]


def test_blanks_between_words_are_no_words(make_store) -> None:  # type: ignore[no-untyped-def]
    """A row of each text belongs to no word, as a special token or a blank does."""
    plant = dependency_plant(20)
    own = columns(plant)
    first = np.flatnonzero(np.diff(own["text"], prepend=-1))
    x = torch.from_numpy(np.insert(plant.x.numpy(), first, 0, axis=0))
    blank = {
        name: np.insert(np.asarray(column), first, np.asarray(column)[first])
        for name, column in own.items()
    }
    blank["word_index"][first + np.arange(len(first))] = -1
    store = make_store({"blocks.0.resid_post": x}, **blank)
    trees = forest(store, max_words=9999, seed=0)
    assert (len(trees), trees.notes) == (20, ())
    torch.testing.assert_close(trees.words.read(store, "blocks.0.resid_post"), plant.x)


def test_the_answer_begins_with_the_chain_where_that_does_better(make_store) -> None:  # type: ignore[no-untyped-def]
    plant = dependency_plant(20)
    store = make_store({"blocks.0.resid_post": plant.x}, **columns(plant))
    found = measured(store, kind=Structural(epochs=0), control=False)
    assert found.answer().startswith("Dependency trees are")
    lost = replace(found, table=found.table.assign(baseline=1.0))
    assert lost.answer().startswith("No layer does better than a chain of neighbours")


def test_the_readout_gives_the_trees(make_store, plant: DependencyPlant, tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = make_store({"blocks.0.resid_post": plant.x}, **columns(plant))
    readout = as_kind("structural").fit(store, 0, device="cpu")  # type: ignore[attr-defined]
    readout.save(tmp_path / "trees.safetensors")
    again = Readout.load(tmp_path / "trees.safetensors")
    assert isinstance(again, StructuralReadout)
    assert (again.site, again.label) == ("blocks.0.resid_post", "head")
    at = 0
    for heads in plant.heads[:20]:
        x = plant.x[at : at + len(heads)]
        assert again.tree(x) == (heads + 1).tolist()
        y = again(x)
        want = torch.cdist(y.double(), y.double()) ** 2
        torch.testing.assert_close(again.distances(x).double(), want, atol=1e-3, rtol=1e-3)
        assert again.depths(x).argmin() == np.flatnonzero(heads < 0)[0]
        at += len(heads)
    mask = np.ones(len(x), dtype=bool)
    mask[0] = False
    assert again.tree(x, mask)[0] == -1
    with pytest.raises(ValueError, match="one sentence is"):
        again.tree(x[None])
    with pytest.raises(ValueError, match="trained at width 48"):
        again.distances(x[:, :5])


def test_it_is_saved_and_draws_itself_again(make_store, tmp_path) -> None:  # type: ignore[no-untyped-def]
    plant = dependency_plant(40)
    sites = {"embed": plant.x.flip(0).contiguous(), "blocks.0.resid_post": plant.x}
    finding = measured(make_store(sites, **columns(plant)))
    finding.save(tmp_path / "finding")
    again = Finding.load(tmp_path / "finding")
    assert again.answer() == finding.answer()
    assert "at the embeddings" in finding.answer()
    names = [trace.name for trace in again.figure().data if trace.showlegend is not False]
    assert {"probe", "chain of neighbours", "gold tree", "found, wrong"} <= set(names)


def test_the_twin_is_measured_alike(make_store) -> None:  # type: ignore[no-untyped-def]
    plant = dependency_plant(40)
    own = columns(plant)
    store = make_store({"blocks.0.resid_post": plant.x}, parts={"model": "a"}, **own)
    twin = make_store({"blocks.0.resid_post": plant.x}, parts={"model": "b"}, **own)
    finding = measured(store, twin=twin)
    assert values(finding, "twin") == values(finding)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees(make_store) -> None:  # type: ignore[no-untyped-def]
    plant = dependency_plant(60)
    store = make_store({"blocks.0.resid_post": plant.x}, **columns(plant))
    cpu, gpu = (values(measured(store, device=device)) for device in ("cpu", "cuda"))
    for measure, value in cpu.items():
        assert gpu[measure] == pytest.approx(value, rel=1e-3)


def test_stories_know_less_than_word_order(shared_data) -> None:  # type: ignore[no-untyped-def]
    """A model of 260,000 parameters: its trees rise with depth, and stay below a chain."""
    import layerscope as ls

    model = ls.load_model(shared_data / "stories260K" / "hf")
    corpus = ls.read(shared_data / "ud_english_ewt" / "en_ewt-ud-dev.conllu").take(600)
    kind = Structural(epochs=0)
    finding = ls.probe(
        model, ["embed", 3], corpus, kind=kind, folds=3, control=False, progress=False, device="cpu"
    )
    embed, late = finding.scores()["value"]
    assert late > embed + 0.03
    assert late < finding.best["baseline"]
    assert any("no site does better than a chain" in note for note in finding.notes)


def test_the_bundled_model_knows_trees() -> None:
    import layerscope as ls
    from layerscope import demo
    from layerscope.corpus import bundled

    finding = ls.probe(
        demo.load_model(),
        ["embed", 6],
        bundled().take(300),
        kind="structural",
        folds=3,
        control=False,
        progress=False,
        device="cpu",
    )
    embed, late = finding.scores()["value"]
    assert late > 0.55
    assert embed < 0.4
    roots = finding.scores("root")["value"]
    assert roots.iloc[1] > roots.iloc[0] + 0.3
