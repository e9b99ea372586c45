"""The batched solver against scikit-learn, closed forms, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from layerscope.probes.solving import design as design_module
from layerscope.probes.solving import scikit, solver
from layerscope.probes.solving.design import Design, Fit

BOUNDS = (0, 200, 400, 600)


def planted(classes: int, width: int = 12, rows: int = 600) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    x = torch.randn(rows, width, generator=generator) @ torch.randn(
        width, width, generator=generator
    ) + 5 * torch.randn(width, generator=generator)
    noise = 2 * torch.randn(rows, classes, generator=generator)
    y = (x @ torch.randn(width, classes, generator=generator) + noise).argmax(1)
    return x, y


def accuracy(design: Design, target: Tensor, fit: Fit, weights: Tensor) -> float:
    held = fit.without[0]
    return (
        (design.scores(held, weights).argmax(1) == target[design.fold(held)]).double().mean().item()
    )


@pytest.mark.parametrize("classes", [2, 3, 9])
def test_logistic_agrees_with_scikit_learn(classes: int) -> None:
    x, y = planted(classes)
    design = Design.of(x, BOUNDS)
    fits = [Fit(0, (fold,), l2) for fold in range(3) for l2 in (1.0, 30.0)]
    ours = solver.logistic(design, y[None], fits, classes=classes, tol=1e-12, max_steps=5000)
    theirs = scikit.logistic(design, y[None], fits, classes=classes, tol=1e-8)
    assert ours.unfinished == theirs.unfinished == 0
    for fit, a, b in zip(fits, ours.weights, theirs.weights, strict=True):
        mine, other = (solver.objective(design, y, fit, weights) for weights in (a, b))
        assert mine == pytest.approx(other, rel=1e-4)
        assert accuracy(design, y, fit, a) == pytest.approx(accuracy(design, y, fit, b), abs=0.005)
        difference = (a[:, :-1] - b[:, :-1]) * design.spread(fit.without).scale
        assert difference.abs().max() < 0.02


def test_logistic_objective_is_the_one_documented() -> None:
    """A second computation, with the training rows copied and standardised by hand."""
    x, y = planted(3)
    design = Design.of(x, BOUNDS)
    fit = Fit(0, (1,), 5.0)
    weights = solver.logistic(design, y[None], [fit], classes=3).weights[0]
    train = torch.cat([x[:200], x[400:]]).double()
    labels = torch.cat([y[:200], y[400:]])
    z = (train - train.mean(0)) / train.std(0, correction=0)
    spread = design.spread((1,))
    w = weights[:, :-1].double() * spread.scale
    b = weights[:, -1] + weights[:, :-1].double() @ spread.mean
    by_hand = torch.nn.functional.cross_entropy(z @ w.T + b, labels, reduction="sum")
    by_hand += 2.5 * w.square().sum()
    assert solver.objective(design, y, fit, weights) == pytest.approx(by_hand.item(), rel=1e-5)


def test_many_fits_together_equal_each_alone() -> None:
    x, y = planted(4)
    design = Design.of(x, BOUNDS)
    targets = torch.stack([y, y.roll(7)])
    fits = [Fit(target, (fold,), 10.0) for target in range(2) for fold in range(3)]
    together = solver.logistic(design, targets, fits, classes=4, tol=1e-8).weights
    for fit, weights in zip(fits, together, strict=True):
        alone = solver.logistic(design, targets, [fit], classes=4, tol=1e-8).weights[0]
        torch.testing.assert_close(weights, alone, atol=2e-3, rtol=1e-2)


def test_a_fit_does_not_see_the_folds_it_is_without() -> None:
    x, y = planted(3)
    spoiled, wrong = x.clone(), y.clone()
    spoiled[:200] = spoiled[:200] * 3 + 2
    wrong[:200] = 0
    fit = Fit(0, (0,), 1.0)
    scores = []
    for rows, labels in ((x, y), (spoiled, wrong)):
        design = Design.of(rows, BOUNDS)
        weights = solver.logistic(design, labels[None], [fit], classes=3, tol=1e-11, max_steps=5000)
        scores.append(design.scores(1, weights.weights[0]).log_softmax(1))
    torch.testing.assert_close(scores[0], scores[1], atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("chunk", [64, 600])
def test_size_of_blocks_does_not_matter(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = planted(3)
    fit = Fit(0, (2,), 1.0)
    expected = solver.logistic(Design.of(x, BOUNDS), y[None], [fit], classes=3).weights
    monkeypatch.setitem(design_module._CHUNK, "cpu", chunk)
    found = solver.logistic(Design.of(x, BOUNDS), y[None], [fit], classes=3).weights
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_order_shift_and_scale_of_features_do_not_matter() -> None:
    x, y = planted(4)
    generator = torch.Generator().manual_seed(1)
    order = torch.randperm(x.shape[1], generator=generator)
    moved = (x * torch.rand(x.shape[1], generator=generator).add(0.1) * 20 - 7)[:, order]
    fit = Fit(0, (0,), 3.0)
    scores = []
    for rows in (x, moved):
        design = Design.of(rows, BOUNDS)
        weights = solver.logistic(design, y[None], [fit], classes=4, tol=1e-9).weights[0]
        scores.append(design.scores(0, weights))
    torch.testing.assert_close(scores[0], scores[1], atol=1e-2, rtol=1e-2)


def test_momentum_and_restarts_save_steps() -> None:
    """Steps of the bound alone: about 7,200 and 280; without restarts 195 and 75."""
    for classes, l2, most in ((9, 1.0, 300), (4, 30.0, 60)):
        x, y = planted(classes)
        design = Design.of(x, BOUNDS)
        found = solver.logistic(design, y[None], [Fit(0, (0,), l2)], classes=classes, tol=1e-8)
        assert found.unfinished == 0
        assert found.steps < most


def test_a_good_start_reaches_the_same_minimum_sooner() -> None:
    x, y = planted(4)
    design = Design.of(x, BOUNDS)
    fits = [Fit(0, (0,), 3.0)]
    cold = solver.logistic(design, y[None], fits, classes=4, tol=1e-8)
    warm = solver.logistic(design, y[None], fits, classes=4, tol=1e-8, start=cold.weights)
    assert warm.steps < cold.steps / 3
    torch.testing.assert_close(warm.weights, cold.weights, atol=1e-3, rtol=1e-2)


def test_constant_features_get_no_weight() -> None:
    x, y = planted(3)
    x[:, 4] = 1e4
    x[200:, 7] = 2.5  # constant wherever a fit without fold 0 looks
    design = Design.of(x, BOUNDS)
    fit = Fit(0, (0,), 1.0)
    for found in (
        solver.logistic(design, y[None], [fit], classes=3).weights[0],
        scikit.logistic(design, y[None], [fit], classes=3).weights[0],
        solver.ridge(design, y[None].double(), [fit]).weights[0],
    ):
        assert torch.isfinite(found).all()
        assert (found[:, [4, 7]] == 0).all()


def test_a_class_without_training_rows_is_never_predicted() -> None:
    x, y = planted(3)
    y[200:][y[200:] == 2] = 0
    y[:50] = 2
    design = Design.of(x, BOUNDS)
    for module in (solver, scikit):
        weights = module.logistic(design, y[None], [Fit(0, (0,), 1.0)], classes=3).weights[0]
        assert 2 not in design.scores(0, weights).argmax(1)


def test_training_rows_of_one_class_predict_it() -> None:
    x, y = planted(2)
    y[200:] = 1
    design = Design.of(x, BOUNDS)
    for module in (solver, scikit):
        weights = module.logistic(design, y[None], [Fit(0, (0,), 1.0)], classes=2).weights[0]
        assert (design.scores(0, weights).argmax(1) == 1).all()


def test_steps_that_run_out_are_counted() -> None:
    x, y = planted(4)
    found = solver.logistic(
        Design.of(x, BOUNDS), y[None], [Fit(0, (0,), 1e-3)], classes=4, tol=1e-12, max_steps=3
    )
    assert (found.steps, found.unfinished) == (3, 1)


def test_ridge_agrees_with_scikit_learn_and_with_the_normal_equations() -> None:
    x, _ = planted(3)
    y = x.double() @ torch.linspace(-1, 1, x.shape[1], dtype=torch.float64) + 40
    y += torch.randn(len(x), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    design = Design.of(x, BOUNDS)
    two = torch.stack([y, y.flip(0)])
    fits = [Fit(t, (fold,), l2) for t in range(2) for fold in range(3) for l2 in (0.1, 100.0)]
    ours = solver.ridge(design, two, fits).weights
    torch.testing.assert_close(ours, scikit.ridge(design, two, fits).weights, atol=1e-4, rtol=1e-4)
    train, target = x[200:].double(), y[200:]
    mean, scale = train.mean(0), train.std(0, correction=0)
    z = (train - mean) / scale
    w = torch.linalg.solve(z.T @ z + 100 * torch.eye(12), z.T @ (target - target.mean()))
    by_hand = (x[:200].double() - mean) / scale @ w + target.mean()
    torch.testing.assert_close(
        design.scores(0, ours[1])[:, 0].double(), by_hand, atol=1e-3, rtol=1e-4
    )


def test_unpenalised_ridge_does_not_change_under_rotation() -> None:
    x, _ = planted(3)
    y = x[:, :1].double().T.sin()
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(0)))[0]
    guesses = []
    for rows in (x, x @ rotation):
        design = Design.of(rows, BOUNDS)
        guesses.append(design.scores(0, solver.ridge(design, y, [Fit(0, (0,), 1e-6)]).weights[0]))
    torch.testing.assert_close(guesses[0], guesses[1], atol=1e-3, rtol=1e-3)


def test_the_solver_leaves_tf32_as_it_was() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with solver.full_precision():
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_processor() -> None:
    x, y = planted(5)
    fits = [Fit(0, (fold,), 10.0) for fold in range(3)]
    here = solver.logistic(Design.of(x, BOUNDS), y[None], fits, classes=5, tol=1e-8).weights
    there = Design.of(x, BOUNDS, device="cuda")
    found = solver.logistic(there, y[None].cuda(), fits, classes=5, tol=1e-8).weights.cpu()
    np.testing.assert_allclose(found, here, atol=2e-3, rtol=1e-2)
