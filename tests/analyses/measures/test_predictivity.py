"""Ridge predictivity: against scikit-learn, and on a known linear map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from layerscope.analyses.measures import predictivity
from layerscope.planted import clouds

FOLDS = np.arange(300) % 5


def test_a_linear_map_is_predicted_and_noise_is_not() -> None:
    x = clouds.gaussian(300, clouds.isotropic(8))
    noise = clouds.gaussian(300, clouds.isotropic(6), seed=9)
    found = predictivity.predict(
        x, [x @ clouds.rotation(8)[:, :3], clouds.blurred(x, 0.8, seed=1), noise], FOLDS
    )
    exact, blurred, nothing = found.values.tolist()
    assert exact == pytest.approx(1, abs=1e-6)
    # The share of variance that x explains, less what 240 rows cannot tell.
    assert blurred == pytest.approx(0.64, abs=0.04)
    assert nothing == pytest.approx(0, abs=0.02)


def test_errors_are_scikit_learn_s_at_the_penalty_that_held_out_rows_choose() -> None:
    x = clouds.gaussian(300, clouds.power_law(12))
    y = clouds.blurred(x[:, :4], 0.6, seed=1)
    found = predictivity.predict(x, [y], FOLDS)
    a, b = x.numpy(), y.numpy()
    expected = np.empty(300)
    for fold in range(5):
        test, other = fold == FOLDS, (fold + 1) % 5 == FOLDS
        errors = []
        for train, tested in ((~test & ~other, other), (~test, test)):
            z = a[train] - a[train].mean(0)
            unit = np.trace(z.T @ z) / 12
            tries = [
                np.square(
                    b[tested] - Ridge(alpha=c * unit).fit(a[train], b[train]).predict(a[tested])
                ).sum(1)
                for c in predictivity.PENALTIES
            ]
            errors.append(tries)
        best = int(np.argmin([part.sum() for part in errors[0]]))
        expected[test] = errors[1][best]
    np.testing.assert_allclose(found.error[:, 0].numpy(), expected, rtol=1e-6)


def test_more_features_than_rows_still_predict() -> None:
    x = clouds.gaussian(300, clouds.power_law(600, 1.5))
    assert float(predictivity.predict(x, [x[:, :2]], FOLDS).values[0]) > 0.9


def test_two_folds_are_refused() -> None:
    x = torch.rand(10, 2)
    with pytest.raises(ValueError, match="at least 3 folds of whole groups, there are 2"):
        predictivity.predict(x, [x], np.arange(10) % 2)
