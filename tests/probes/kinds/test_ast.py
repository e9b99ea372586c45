"""`probe(kind="ast")`: the plant is found exactly, in code and in dependency trees alike."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from layerscope.corpus.tree_tuples import Node, TreeTuple, constituents, decode, encode
from layerscope.finding import Finding
from layerscope.planted.trees import BinaryPlant, binary_plant
from layerscope.probes.kinds import AST, as_kind
from layerscope.probes.probe import probe
from layerscope.probes.readouts.ast import AstReadout
from layerscope.probes.readouts.readout import Readout
from layerscope.probes.trees.ast_batches import batches
from layerscope.probes.trees.ast_fit import AstFit, AstProbe, losses
from layerscope.probes.trees.parses import parses
from layerscope.probes.trees.span_scores import hits, span_scores


def columns(plant: BinaryPlant, groups: int = 30) -> dict[str, object]:
    lengths = [len(tree) for tree in plant.unary]
    text = np.repeat(np.arange(len(lengths)), lengths)
    return {
        "text": text,
        "group": [f"g{number % groups}" for number in text],
        "word_index": np.concatenate([np.arange(length) for length in lengths]),
        "tree_height": [h for tree in plant.heights for h in (None, *tree)],
        "tree_label": [label for tree in plant.labels for label in (None, *tree)],
        "tree_unary": [label for tree in plant.unary for label in tree],
    }


@pytest.fixture(scope="module")
def plant() -> BinaryPlant:
    return binary_plant(300)


def measured(store, **options):  # type: ignore[no-untyped-def]
    options = {"kind": "ast", "folds": 3, "progress": False, "device": "cpu"} | options
    return probe(store, "all", **options)


def values(finding, column="value"):  # type: ignore[no-untyped-def]
    return dict(zip(finding.table["measure"], finding.table[column], strict=True))


def test_the_plant_is_found_exactly(make_store, plant: BinaryPlant) -> None:  # type: ignore[no-untyped-def]
    store = make_store({"blocks.0.resid_post": plant.x}, **columns(plant))
    finding = measured(store)
    assert values(finding) == {"f1": 1, "precision": 1, "recall": 1, "inner": 1}
    assert values(finding, "control")["inner"] < 0.3
    assert values(finding, "control")["f1"] < 0.5
    assert values(finding, "baseline")["f1"] < 0.5
    assert "F1 of constituents 1.000" in finding.answer()
    assert finding.figure().data


def test_the_projection_is_orthogonal_after_descent(make_store, plant: BinaryPlant) -> None:  # type: ignore[no-untyped-def]
    store = make_store({"blocks.0.resid_post": plant.x}, **columns(plant))
    trees = parses(store, max_words=9999, seed=0)
    x = torch.stack([plant.x, plant.x + torch.randn(plant.x.shape)])
    dev = np.arange(len(trees)) % 4 == 0
    start, end = (AstFit(16, epochs)(x, trees, ~dev, dev) for epochs in (0, 3))
    assert not torch.equal(start.projection, end.projection)
    for probe_ in (start, end):
        gram = probe_.projection.mT @ probe_.projection
        torch.testing.assert_close(gram, torch.eye(16).expand(2, 16, 16), atol=1e-5, rtol=0)


def test_sites_together_are_sites_alone(make_store, plant: BinaryPlant) -> None:  # type: ignore[no-untyped-def]
    store = make_store({"blocks.0.resid_post": plant.x}, **columns(plant))
    trees = parses(store, max_words=9999, seed=0)
    noisy = plant.x + torch.randn(plant.x.shape, generator=torch.Generator().manual_seed(0))
    dev = np.arange(len(trees)) % 4 == 0
    both = AstFit(16, 2)(torch.stack([plant.x, noisy]), trees, ~dev, dev)
    alone = AstFit(16, 2)(noisy[None], trees, ~dev, dev)
    torch.testing.assert_close(both.projection[1], alone.projection[0], atol=1e-3, rtol=1e-3)
    texts = list(range(40))
    together = both.predict(torch.stack([plant.x, noisy]), trees, texts)[1]
    single = alone.predict(noisy[None], trees, texts)[0]
    same = [
        a.labels == b.labels and a.unary == b.unary for a, b in zip(together, single, strict=True)
    ]
    assert np.mean(same) > 0.95


def test_the_loss_is_the_papers_pair_by_pair(make_store) -> None:  # type: ignore[no-untyped-def]
    plant = binary_plant(5)
    store = make_store({"blocks.0.resid_post": plant.x}, **columns(plant, groups=5))
    trees = parses(store, max_words=9999, seed=0)
    generator = torch.Generator().manual_seed(0)
    made = AstProbe(
        torch.linalg.qr(torch.randn(1, 64, 8, generator=generator))[0],
        torch.randn(1, len(trees.labels), 8, generator=generator),
        torch.randn(1, len(trees.unary), 8, generator=generator),
        torch.tensor([0.7]),
        torch.randn(1, 64, generator=generator),
    )
    (batch,) = batches(trees, np.arange(5))
    found = losses(plant.x[None], made, batch)[0]
    order = np.argsort(trees.words.lengths, kind="stable")
    for place, text in enumerate(order):
        a, b = trees.words.starts[text : text + 2]
        y = (plant.x[a:b] - made.mean[0]) @ made.projection[0]
        steps = y[1:] - y[:-1]
        heights = 0.7 * (steps**2).sum(1)
        gold = trees.trees[text].heights
        pairs = [
            torch.relu(1 - (heights[i] - heights[j]))
            for i in range(len(gold))
            for j in range(len(gold))
            if gold[i] > gold[j]
        ]
        between = torch.tensor([trees.labels.index(name) for name in trees.trees[text].labels])
        alone = torch.tensor([trees.unary.index(name) for name in trees.trees[text].unary])
        want = (
            (torch.stack(pairs).mean() if pairs else 0)
            + torch.nn.functional.cross_entropy(steps @ made.labels[0].T, between)
            + torch.nn.functional.cross_entropy(y @ made.unary[0].T, alone)
        )
        torch.testing.assert_close(found[place], want, atol=1e-4, rtol=1e-4)


def test_constituents_count_as_often_as_they_are_there() -> None:
    """List membership would count the second 'a' as a hit, and precision would be 1."""
    found, gold = [("a", 0, 1), ("a", 0, 1)], [("a", 0, 1), ("b", 0, 1)]
    assert hits(found, gold) == 1
    scores = span_scores([found], [gold])
    assert (scores["precision"][0], scores["recall"][0], scores["f1"][0]) == (0.5, 0.5, 0.5)
    generator = np.random.default_rng(0)
    sides = [
        [("ab"[i], int(j), int(j) + 1) for i, j in generator.integers(0, 2, (9, 2))] for _ in "xy"
    ]
    want = sum(min(n, Counter(sides[1])[span]) for span, n in Counter(sides[0]).items())
    assert hits(*sides) == want


def test_a_rotation_of_the_activations_changes_nothing(make_store) -> None:  # type: ignore[no-untyped-def]
    plant = binary_plant(80, seed=1)
    x = plant.x + 0.3 * torch.randn(plant.x.shape, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(1)))[0]
    sites = {"blocks.0.resid_post": x, "blocks.1.resid_post": x @ turn}
    store = make_store(sites, **columns(plant))
    finding = measured(store, kind=AST(epochs=0), control=False)
    one, other = finding.scores()["value"]
    assert 0.2 < one < 0.99
    assert other == pytest.approx(one, abs=0.02)


def test_the_readout_builds_the_trees(make_store, plant: BinaryPlant, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    store = make_store({"blocks.0.resid_post": plant.x}, **columns(plant))
    as_kind("ast").fit(store, 0, device="cpu").save(tmp_path / "ast.safetensors")  # type: ignore[attr-defined]
    again = Readout.load(tmp_path / "ast.safetensors")
    assert isinstance(again, AstReadout)
    at = 0
    parts = zip(plant.heights, plant.labels, plant.unary, strict=True)
    for heights, labels, unary in list(parts)[:20]:
        x = plant.x[at : at + len(unary)]
        assert again.tree(x) == decode(TreeTuple(heights, labels, unary))
        assert again.predict(x) == list(labels)
        at += len(unary)
    with pytest.raises(ValueError, match="one text is"):
        again.tree(x[None])
    with pytest.raises(ValueError, match="trained at width 64"):
        again.tree(x[:, :5])


def test_dependency_trees_become_constituents(make_store) -> None:  # type: ignore[no-untyped-def]
    heads = [np.array([2, 3, 0, 5, 3]), np.array([3, 4, 0, 3])]  # the second one crosses
    lengths = [len(tree) for tree in heads]
    text = np.repeat([0, 1], lengths)
    store = make_store(
        {"blocks.0.resid_post": torch.randn(9, 4)},
        text=text,
        group=[f"g{t}" for t in text],
        word_index=np.concatenate([np.arange(n) for n in lengths]),
        head=np.concatenate(heads),
        deprel=["det", "nsubj:pass", "root", "det", "obj", "a", "b", "root", "c"],
    )
    trees = parses(store, max_words=99, seed=0)
    assert set(trees.spans[0]) == {
        ("det", 0, 0),
        ("nsubj", 0, 1),
        ("root", 0, 4),
        ("det", 3, 3),
        ("obj", 3, 4),
    }
    assert any("1 of 2 trees have crossing arcs" in note for note in trees.notes)


def test_refused(make_store, plant: BinaryPlant) -> None:  # type: ignore[no-untyped-def]
    x = {"blocks.0.resid_post": plant.x}
    own = columns(plant)
    bare = {name: own[name] for name in ("text", "group", "word_index")}
    with pytest.raises(LookupError, match=r"'tree_height' \(read a .py file\) or 'head'"):
        measured(make_store(x, **bare))
    with pytest.raises(ValueError, match="folds must be at least 3"):
        measured(make_store(x, **own), folds=2)
    short = {name: np.asarray(column)[:1] for name, column in own.items()}
    with pytest.raises(ValueError, match="no text with a whole tree: 1 of 1 texts left out"):
        measured(make_store({"blocks.0.resid_post": plant.x[:1]}, **short))
    with pytest.raises(ValueError, match="epochs must be at least 0, got -1"):
        AST(epochs=-1)


def test_it_is_saved_and_draws_itself_again(make_store, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    plant = binary_plant(60)
    own = columns(plant)
    sites = {"embed": plant.x.flip(0).contiguous(), "blocks.0.resid_post": plant.x}
    store = make_store(sites, parts={"model": "a"}, **own)
    twin = make_store(sites, parts={"model": "b"}, **own)
    finding = measured(store, twin=twin)
    finding.save(tmp_path / "finding")
    again = Finding.load(tmp_path / "finding")
    assert again.answer() == finding.answer()
    assert values(finding, "twin")["f1"] == values(finding)["f1"]
    names = {trace.name for trace in again.figure().data}
    assert {"probe", "shuffled words", "untrained twin"} <= names


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees(make_store) -> None:  # type: ignore[no-untyped-def]
    plant = binary_plant(60)
    store = make_store({"blocks.0.resid_post": plant.x}, **columns(plant))
    kind = AST(epochs=0)
    cpu, gpu = (values(measured(store, kind=kind, device=d)) for d in ("cpu", "cuda"))
    for measure, value in cpu.items():
        assert gpu[measure] == pytest.approx(value, rel=1e-3)


def test_python_through_a_model_that_never_saw_any(shared_data, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A model of English books reads code: beyond shuffled words, by tokens more than by layers."""
    import fileinput
    import heapq
    import queue
    import shelve
    import shutil

    import layerscope as ls

    for module in (queue, heapq, shelve, fileinput):
        shutil.copy(str(module.__file__), tmp_path)
    corpus = ls.read(tmp_path, group="definition")
    model = ls.load_model(shared_data / "gpt2_books_steps" / "step2048")
    finding = ls.probe(
        model, ["embed", 2], corpus, kind=AST(epochs=2), folds=3, progress=False, device="cpu"
    )
    lines = finding.scores()
    assert (lines["value"] > lines["control"] + 0.1).all()
    assert (lines["value"] > lines["baseline"]).all()
    assert any("words missing" in note for note in finding.notes)


def test_a_tree_of_code_is_carried_by_the_store(tmp_path: Path, gpt2, tokenizer) -> None:  # type: ignore[no-untyped-def]
    """From file to rows and back: the tree of the store is that of the source."""
    import layerscope as ls
    from layerscope.corpus.python_tree import parse

    file = tmp_path / "f.py"
    file.write_text("def f(x): return x+1\ndef g(): pass\ndef long(a):\n" + "    a = a\n" * 40)
    store = ls.extract(gpt2, ls.read(file), [0], rows="words", tokenizer=tokenizer, progress=False)
    trees = parses(store, max_words=9999, seed=0)
    assert len(trees) == 2
    assert any("1 of 3 texts left out: words missing" in note for note in trees.notes)
    for text, coded in zip(trees.words.texts, trees.trees, strict=True):
        want = parse(store.texts[text]).tree
        assert isinstance(want, Node)
        assert decode(coded) == want
        assert coded == encode(want)
        assert sorted(constituents(want))
