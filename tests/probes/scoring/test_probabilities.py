"""Out-of-fold probabilities: those of scikit-learn, calibrated, and blind to their own fold."""

from __future__ import annotations

from math import erf, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from layerscope.planted.clouds import exactly_white
from layerscope.planted.gaussian_classes import gaussian_classes
from layerscope.probes.scoring.probabilities import out_of_fold_probabilities, temperature
from layerscope.probes.solving.design import Design
from layerscope.probes.solving.engine import engine

BOUNDS = (0, 200, 400, 600, 800, 1000)


# The torch solver stops where a step gains less than 1e-5 nats a row: 1 per cent in probability.
@pytest.mark.parametrize(("solver", "off"), [("sklearn", 1e-4), ("torch", 0.02)])
def test_each_fold_is_scikit_learns_without_it(solver: Any, off: float) -> None:
    planted = gaussian_classes(3, 1000, 6, gap=2)
    design = Design.of(planted.x, BOUNDS)
    found = out_of_fold_probabilities(
        design, planted.y, 3, engine(solver, 1.0), l2=5.0, scaled=False
    )
    assert found.penalties == (5.0,) * 5
    assert found.temperatures == (1.0,) * 5
    np.testing.assert_allclose(found.values.sum(1), 1)
    x, y = planted.x.numpy(), planted.y.numpy()
    for fold in range(5):
        held = np.arange(1000) // 200 == fold
        scaler = StandardScaler().fit(x[~held])
        model = LogisticRegression(C=1 / 5, tol=1e-9, max_iter=2000)
        model.fit(scaler.transform(x[~held]), y[~held])
        expected = model.predict_proba(scaler.transform(x[held]))
        np.testing.assert_allclose(found.values[held], expected, atol=off)


def test_labels_of_a_fold_do_not_reach_its_own_probabilities() -> None:
    planted = gaussian_classes(2, 1000, 6, gap=2)
    design = Design.of(planted.x, BOUNDS)
    turned = planted.y.clone()
    turned[:200] = 1 - turned[:200]
    one, two = (
        out_of_fold_probabilities(design, y, 2, engine("torch", 1.0), l2=1.0, scaled=False)
        for y in (planted.y, turned)
    )
    np.testing.assert_allclose(one.values[:200], two.values[:200], atol=1e-6)
    assert np.abs(one.values[200:] - two.values[200:]).max() > 0.01


def test_random_labels_with_few_rows_a_feature_are_cooled_to_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 200, generator=generator)
    y = torch.randint(2, (300,), generator=generator)
    design = Design.of(x, (0, 60, 120, 180, 240, 300))
    rash, fair = (
        out_of_fold_probabilities(design, y, 2, engine("torch", 1.0), l2=0.01, scaled=scaled)
        for scaled in (False, True)
    )
    assert min(fair.temperatures) > 3
    assert np.abs(rash.values - 0.5).mean() > 0.35
    assert np.abs(fair.values - 0.5).mean() < 0.1


def test_where_nothing_can_be_learned_nobody_is_sure() -> None:
    # A probe of nothing has next to no scores, and what would sharpen them ruins the next probe's.
    y = torch.arange(400) % 2
    for seed in range(12):
        design = Design.of(exactly_white(400, 1, seed=seed), (0, 80, 160, 240, 320, 400))
        found = out_of_fold_probabilities(design, y, 2, engine("torch", 1.0))
        given = found.values[np.arange(400), y.numpy()]
        assert -np.log(given).mean() < np.log(2) + 0.02


def test_temperature_undoes_a_known_factor() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(200_000, 3, generator=generator, dtype=torch.float64) * 2
    y = torch.multinomial(scores.softmax(-1), 1, generator=generator)[:, 0]
    for factor in (0.5, 1.0, 4.0):
        assert temperature(scores * factor, y) == pytest.approx(factor, rel=0.02)


def test_accuracy_is_that_of_two_gaussians() -> None:
    planted = gaussian_classes(2, 20_000, 5, gap=2)
    design = Design.of(planted.x, range(0, 20_001, 4000))
    found = out_of_fold_probabilities(design, planted.y, 2, engine("torch", 1.0))
    right = found.values.argmax(1) == planted.y.numpy()
    assert right.mean() == pytest.approx((1 + erf(1 / sqrt(2))) / 2, abs=0.01)
    # Calibrated: of what it says with probability p, the share p is right.
    sure = found.values.max(1)
    assert right.mean() == pytest.approx(sure.mean(), abs=0.01)
