"""The line that measures it again runs, and measures the same; who solved it is who did."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import layerscope
from layerscope.planted.trees import dependency_plant
from layerscope.probes import kinds
from layerscope.probes.probe import probe
from layerscope.store import Store

ROWS = 240


@pytest.fixture
def store(make_store) -> Store:
    """Tokens of 60 texts; `side` is the text's, `kind` and `colour` the token's."""
    generator = torch.Generator().manual_seed(0)
    y = np.arange(ROWS) % 2
    x = torch.randn(ROWS, 4, generator=generator)
    x[:, 0] += torch.from_numpy(y)
    return make_store(
        {"embed": x, "blocks.0.resid_post": x + 0.1},
        text=np.arange(ROWS) // 4,
        position=np.arange(ROWS) % 4,
        group=np.arange(ROWS) // 12,
        word=[f"w{i % 30}" for i in range(ROWS)],
        kind=["ab"[i] for i in y],
        side=[i // 4 % 2 == 0 for i in range(ROWS)],
        colour=["red", "green", "blue"] * (ROWS // 3),
        size=x[:, 1].double().numpy(),
    )


def again(finding, store: Store, **names: object) -> pd.DataFrame:
    names |= {"layerscope": layerscope, "store": store, "kinds": kinds}
    exec(f"found = {finding.provenance.call}", names)  # noqa: S102
    return names["found"].table


@pytest.mark.parametrize(
    ("kind", "label", "written"),
    [
        ("linear", "kind", None),
        (kinds.Linear(l2=3.0), "kind", "kinds.Linear(l2=3.0)"),
        (kinds.MLP(hidden=8, epochs=3), "kind", "kinds.MLP(hidden=8, epochs=3)"),
        ("lda", "kind", "'lda'"),
        (kinds.Ridge(l2=5.0), "size", "kinds.Ridge(l2=5.0)"),
        (kinds.Concepts(label="colour"), "kind", "kinds.Concepts(label='colour')"),
        (kinds.MDL(orders=1, fractions=(0.1, 0.7, 1)), "kind", None),
        (kinds.Pooling(poolings=("mean", "last")), "side", None),
        (kinds.CLUE(correct=False, normalise=True), "side", None),
        (kinds.ScalarMix(concat=0), "kind", "kinds.ScalarMix(concat=0)"),
    ],
)
def test_the_line_measures_the_same(store, kind, label, written) -> None:
    options = {"folds": 4, "seed": 3, "solver": "torch", "device": "cpu", "control": False}
    finding = probe(store, label=label, kind=kind, progress=False, **options)
    call = finding.provenance.call
    assert (f"kind={written}, " in call) == (written is not None)
    if kind != "linear" and written is None:
        assert f"kind=kinds.{type(kind).__name__}(" in call
    assert "control=False" in call
    pd.testing.assert_frame_equal(again(finding, store), finding.table)


def test_the_twin_is_named_and_defaults_are_left_out(store) -> None:
    finding = probe(store, label="kind", twin=store, progress=False)
    call = finding.provenance.call
    for name in ("control", "kind=", "solver", "device"):
        assert name not in call.replace("label='kind'", ""), name
    pd.testing.assert_frame_equal(again(finding, store, twin=store), finding.table)


@pytest.mark.parametrize("kind", [kinds.Structural(rank=4, epochs=0), kinds.AST(rank=4, epochs=0)])
def test_trees_are_not_asked_for_by_label(make_store, kind) -> None:
    plant = dependency_plant(40)
    lengths = [len(tree) for tree in plant.heads]
    text = np.repeat(np.arange(len(lengths)), lengths)
    store = make_store(
        {"blocks.0.resid_post": plant.x},
        text=text,
        group=text % 20,
        word_index=np.concatenate([np.arange(length) for length in lengths]),
        word=[f"w{i}" for i in range(len(text))],
        head=np.concatenate([tree + 1 for tree in plant.heads]),
    )
    finding = probe(store, kind=kind, folds=3, device="cpu", progress=False)
    assert "label=" not in finding.provenance.call
    pd.testing.assert_frame_equal(again(finding, store), finding.table)


def test_directions_are_the_users_to_give(store) -> None:
    kind = kinds.Concepts(directions=torch.eye(4), l1=0.1)
    call = probe(store, label="kind", kind=kind, progress=False).provenance.call
    assert "kind=kinds.Concepts(directions=..., l1=0.1), " in call


@pytest.mark.parametrize(
    ("kind", "label", "solver"),
    [
        ("linear", "kind", "scikit-learn"),
        ("prototypes", "kind", "scikit-learn"),
        ("lda", "kind", "closed form, torch on cpu"),
        ("mass_mean", "kind", "closed form, torch on cpu"),
        ("ridge", "kind", "closed form, torch on cpu"),
        ("ridge", "size", "scikit-learn"),
        (kinds.MLP(hidden=4, epochs=2), "kind", "Adam, torch on cpu"),
        (kinds.Concepts(label="colour"), "kind", "proximal steps, torch on cpu"),
    ],
)
def test_who_solved_it(store, kind, label, solver) -> None:
    finding = probe(store, 0, label=label, kind=kind, solver="sklearn", progress=False)
    assert finding.provenance.parameters["solver"] == solver
    assert any(note.endswith(f"; {solver}") for note in finding.notes)
