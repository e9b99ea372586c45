"""The l1 path: its minimum, its ends, and the concepts a label depends on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from layerscope.probes.solving.sparse import sparse_path, strongest


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 12, generator=generator) @ torch.randn(12, 12, generator=generator) + 2
    scores = x[:, :3] + 2 * torch.randn(400, 3, generator=generator)
    return (x - x.mean(0)) / x.std(0, correction=0), scores.argmax(1)


def loss(x: Tensor, y: Tensor, weights: Tensor, l1: float) -> float:
    scores = x.double() @ weights[:, :-1].double().T + weights[:, -1].double()
    nats = torch.nn.functional.cross_entropy(scores, y).item()
    return nats + l1 * weights[:, :-1].abs().sum().item()


@pytest.mark.parametrize("l1", [0.05, 0.01, 0.001])
def test_the_minimum_is_scikit_learns(rows, l1) -> None:
    x, y = rows
    ours = sparse_path(x, y, [l1], classes=3, tol=1e-10).weights[0]
    model = LogisticRegression(
        l1_ratio=1, solver="saga", C=1 / (len(x) * l1), tol=1e-8, max_iter=20_000, random_state=0
    ).fit(x.double(), y)
    theirs = torch.from_numpy(np.concatenate([model.coef_, model.intercept_[:, None]], 1))
    assert loss(x, y, ours, l1) == pytest.approx(loss(x, y, theirs, l1), rel=1e-5)
    assert ((ours[:, :-1] != 0) == (theirs[:, :-1].abs() > 1e-6)).all()


def test_all_weights_are_zero_from_the_strongest_penalty_on(rows) -> None:
    x, y = rows
    edge = strongest(x, y, 3)
    above, below = sparse_path(x, y, [1.001 * edge, 0.97 * edge], classes=3, tol=1e-12).weights
    assert (above[:, :-1] == 0).all()
    assert (below[:, :-1] != 0).any()
    shares = torch.bincount(y) / len(y)
    torch.testing.assert_close(above[:, -1].softmax(0), shares, atol=1e-3, rtol=0)


def test_a_path_ends_where_each_penalty_alone_does(rows) -> None:
    x, y = rows
    path = [0.1, 0.03, 0.003]
    together = sparse_path(x, y, path, classes=3, tol=1e-10)
    assert together.unfinished == 0
    for l1, weights in zip(path, together.weights, strict=True):
        alone = sparse_path(x, y, [l1], classes=3, tol=1e-10).weights[0]
        assert loss(x, y, weights, l1) == pytest.approx(loss(x, y, alone, l1), rel=1e-6)


def test_the_support_is_found_at_the_right_penalty() -> None:
    """The class depends on 5 of 200 scores: precision and recall are both 1."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 200, generator=generator)
    odds = 1.5 * x[:, [3, 40, 77, 120, 199]].sum(1)
    y = (torch.rand(3000, generator=generator) < odds.sigmoid()).long()
    path = [strongest(x, y, 2) * share for share in np.logspace(0, -3, 13)]
    supports = [
        set((weights[:, :-1] != 0).any(0).nonzero()[:, 0].tolist())
        for weights in sparse_path(x, y, path, classes=2).weights
    ]
    assert {3, 40, 77, 120, 199} in supports


def test_steps_that_run_out_are_counted(rows) -> None:
    x, y = rows
    found = sparse_path(x, y, [0.01, 0.001], classes=3, tol=1e-12, max_steps=2)
    assert found.unfinished == 2
