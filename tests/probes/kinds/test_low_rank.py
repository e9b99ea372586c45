"""Probes of limited rank: the rank, the minimum, and what a label needs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from layerscope.probes.fitting import fit
from layerscope.probes.kinds import Linear, LowRank
from layerscope.probes.kinds.low_rank import low_rank
from layerscope.probes.solving import solver
from layerscope.probes.solving.design import Design, Fit

FITS = [Fit(0, (fold,), 5.0) for fold in range(3)]


@pytest.fixture
def rows() -> tuple[Design, Tensor]:
    """Five classes in six correlated features, in three folds."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(6, 6, generator=generator)
    x = torch.randn(600, 6, generator=generator) @ mix + 3
    scores = x @ torch.randn(6, 5, generator=generator)
    y = (scores + 2 * torch.randn(600, 5, generator=generator)).argmax(1)
    return Design.of(x, (0, 200, 400, 600)), y


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_weights_have_the_rank(rows, rank) -> None:
    design, y = rows
    found = low_rank(design, y[None], FITS, classes=5, rank=rank)
    values = torch.linalg.svdvals(found.weights[..., :-1])
    assert (values[:, rank:] < 1e-5 * values[:, :1]).all()
    assert (values[:, rank - 1] > 0.01 * values[:, 0]).all()
    assert found.unfinished == 0


def test_the_full_rank_is_no_limit(rows) -> None:
    design, y = rows
    free = solver.logistic(design, y[None], FITS, classes=5, tol=1e-9).weights
    found = low_rank(design, y[None], FITS, classes=5, rank=4, tol=1e-9).weights
    for fit_, a, b in zip(FITS, found, free, strict=True):
        ours, best = (solver.objective(design, y, fit_, weights) for weights in (a, b))
        assert ours == pytest.approx(best, rel=1e-6)


def factorised(design: Design, y: Tensor, fit_: Fit, rank: int, seed: int) -> float:
    """The same objective by L-BFGS on two factors from a random start."""
    generator = torch.Generator().manual_seed(seed)
    kept = torch.cat(
        [torch.arange(*design.bounds[f : f + 2]) for f in (0, 1, 2) if f not in fit_.without]
    )
    x, truth = design.x[kept].double(), y[kept]
    scale = design.spread(fit_.without).scale
    left = torch.randn(5, rank, generator=generator, dtype=torch.float64).requires_grad_()
    right = torch.randn(rank, 6, generator=generator, dtype=torch.float64).requires_grad_()
    bias = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS([left, right, bias], max_iter=2000, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        steps.zero_grad()
        weight = left @ right
        nats = torch.nn.functional.cross_entropy(
            x[:, :-1] @ weight.T + bias, truth, reduction="sum"
        )
        total = nats + fit_.l2 / 2 * (weight * scale).square().sum()
        total.backward()
        return total

    steps.step(loss)
    return loss().item()


@pytest.mark.parametrize("rank", [1, 2])
def test_the_minimum_is_the_one_that_factors_find(rows, rank) -> None:
    """L-BFGS on two factors, from five random starts: none ends lower."""
    design, y = rows
    found = low_rank(design, y[None], FITS, classes=5, rank=rank, tol=1e-9).weights
    for fit_, weights in zip(FITS, found, strict=True):
        ours = solver.objective(design, y, fit_, weights)
        best = min(factorised(design, y, fit_, rank, seed) for seed in range(5))
        assert ours == pytest.approx(best, rel=1e-4)


def test_the_same_every_time(rows) -> None:
    design, y = rows
    a, b = (low_rank(design, y[None], FITS, classes=5, rank=2).weights for _ in range(2))
    assert torch.equal(a, b)


def test_fits_together_are_fits_alone(rows) -> None:
    design, y = rows
    together = low_rank(design, y[None], FITS, classes=5, rank=2, tol=1e-8).weights
    for i, one in enumerate(FITS):
        alone = low_rank(design, y[None], [one], classes=5, rank=2, tol=1e-8).weights[0]
        torch.testing.assert_close(together[i], alone, atol=1e-3, rtol=1e-3)


def test_a_label_of_two_directions_needs_rank_two(scored) -> None:
    """Six classes around a circle: one direction confuses every third row, two hardly any."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(3000) % 6
    angle = y * torch.pi / 3
    x = torch.randn(3000, 12, generator=generator)
    x[:, 3] += 5 * angle.cos()
    x[:, 7] += 5 * angle.sin()
    values = {r: scored(LowRank(rank=r), x, y, classes=6)["value"] for r in (1, 2)}
    full = scored("linear", x, y, classes=6)["value"]
    assert values[1] < 0.75
    assert values[2] == pytest.approx(full, abs=0.005)
    assert full > 0.95


def test_the_readout_is_what_was_fitted(rows) -> None:
    design, y = rows
    x = design.x[:, :-1] * design.scale + design.mean
    readout = fit(x, y, kind=LowRank(rank=1, l2=3.0))
    assert int(torch.linalg.matrix_rank(readout.weight, rtol=1e-4)) == 1
    free = fit(x, y, kind=Linear(l2=3.0))
    hits = [np.mean(np.array(r.predict(x)) == y.numpy()) for r in (readout, free)]
    assert 0.3 < hits[0] < hits[1]


def test_ranks_that_are_none() -> None:
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        LowRank(rank=0)


@pytest.mark.parametrize("width", [1, 3])
def test_fewer_features_than_the_rank(scored, width) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(500) % 5
    x = torch.randn(500, width, generator=generator) + 4 * y[:, None]
    line = scored(LowRank(rank=4), x, y, classes=5)
    free = scored("linear", x, y, classes=5)
    assert line["value"] == pytest.approx(free["value"], abs=0.01)
    assert fit(x, y, kind=LowRank(rank=4)).weight.shape == (5, width)
