"""`layerscope probe --kind`, and several labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from layerscope.cli import app
from layerscope.probes.kinds import NAMES
from layerscope.store import Store


@pytest.fixture
def store(make_store) -> Store:
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    return make_store(
        {"blocks.0.resid_post": x},
        group=np.arange(120) // 2,
        kind=["ab"[int(v > 0)] for v in x[:, 0].tolist()],
        size=x[:, 1].double().numpy(),
    )


def run(*arguments: object):
    return CliRunner().invoke(app, ["probe", *map(str, arguments), "--json"])


def test_a_kind_by_name(store) -> None:
    found = run(store.path, "--kind", "lda", "--label", "kind")
    assert found.exit_code == 0, found.output
    (line,) = json.loads(found.stdout)["table"]
    assert (line["estimator"], line["label"]) == ("LDA, shrunk covariance", "kind")


def test_several_labels(store) -> None:
    found = run(store.path, "--label", "kind", "--label", "size")
    assert found.exit_code == 0, found.output
    lines = json.loads(found.stdout)["table"]
    assert [(line["label"], line["unit"]) for line in lines] == [
        ("kind", "accuracy"),
        ("size", "R2"),
    ]


def test_help_lists_the_kinds() -> None:
    text = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["probe", "--help"]).output
    for name in NAMES:
        assert name in text
    assert NAMES[0] == "linear"


def test_a_kind_that_is_none(store) -> None:
    found = run(store.path, "--kind", "ldb", "--label", "kind")
    assert found.exit_code != 0
    assert "--kind 'ldb': did you mean" in str(found.exception)


def test_concepts_are_another_label(make_store) -> None:
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    colour = ["red", "green", "blue"] * 40
    store = make_store(
        {"blocks.0.resid_post": x},
        group=np.arange(120) // 2,
        kind=["ab"[int(v > 0)] for v in x[:, 0].tolist()],
        colour=colour,
    )
    asked = (store.path, "--kind", "concepts", "--label", "kind")
    found = run(*asked, "--concepts", "colour")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["table"][0]["estimator"] == "l1 logistic on concepts"
    for wrong in (asked, (store.path, "--concepts", "colour")):
        found = run(*wrong)
        assert found.exit_code == 2
        assert "--concepts COLUMN" in found.output
