"""Readouts: trained, applied, saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from layerscope.probes.fitting import LogisticFit, RidgeFit, fit, fit_readout
from layerscope.probes.kinds import Linear


@pytest.fixture
def three() -> tuple[torch.Tensor, list[str]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator) * torch.tensor([1, 9, 0.1, 1, 1, 1]) + 4
    noise = 0.5 * torch.randn(400, 3, generator=generator)
    scores = (x[:, :3] - 4) / torch.tensor([1, 9, 0.1]) + noise
    return x, [("red", "green", "blue")[i] for i in scores.argmax(1).tolist()]


def test_logistic_readout_is_scikit_learns(three) -> None:
    x, y = three
    readout = fit(x, y, kind=Linear(l2=2.0), solver="torch")
    scaler = StandardScaler().fit(x.double())
    model = LogisticRegression(C=0.5, tol=1e-8, max_iter=1000).fit(scaler.transform(x.double()), y)
    expected = model.predict_proba(scaler.transform(x.double()))
    assert readout.classes == ("blue", "green", "red") == tuple(model.classes_)
    np.testing.assert_allclose(readout.probabilities(x), expected, atol=2e-3)
    assert readout.predict(x) == model.predict(scaler.transform(x.double())).tolist()
    assert readout(x[:1]).shape == (1, 3)
    assert readout(x.view(20, 20, 6)).shape == (20, 20, 3)


def test_ridge_readout_is_scikit_learns(three) -> None:
    x, _ = three
    y = x[:, 1] * 3 + 100 + torch.randn(400, generator=torch.Generator().manual_seed(0))
    readout = fit(x, y, kind=Linear(l2=50.0), solver="torch")
    z = StandardScaler().fit_transform(x.double())
    expected = Ridge(alpha=50.0).fit(z, y.double()).predict(z)
    np.testing.assert_allclose(readout.predict(x), expected, rtol=1e-4)
    with pytest.raises(ValueError, match="has no probabilities"):
        readout.probabilities(x)


def test_fitting_in_parts_equals_fitting_at_once(three) -> None:
    x, y = three
    numbers = x[:, 1] - x[:, 4]
    ridge = RidgeFit(6).update(x[:150], numbers[:150]).update(x[150:], numbers[150:]).result(l2=3.0)
    torch.testing.assert_close(
        ridge(x), fit(x, numbers, kind=Linear(l2=3.0))(x), atol=1e-3, rtol=1e-4
    )
    logistic = LogisticFit(("blue", "green", "red"))
    parts = logistic.update(x[:150], y[:150]).update(x[150:], y[150:]).result(l2=3.0)
    whole = fit(x, y, kind=Linear(l2=3.0))
    torch.testing.assert_close(parts.probabilities(x), whole.probabilities(x), atol=1e-2, rtol=0)
    with pytest.raises(ValueError, match=r"classes \['pink'\] are not among \['blue'"):
        logistic.update(x[:1], ["pink"])


def test_directions_raise_the_scores_in_the_models_own_coordinates(three) -> None:
    x, y = three
    readout = fit(x, y, kind=Linear(l2=1.0))
    step = torch.randn(6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        readout(x[:3] + step) - readout(x[:3]),
        (readout.directions @ step).expand(3, 3),
        atol=1e-4,
        rtol=1e-4,
    )


def test_the_penalty_is_chosen_by_groups() -> None:
    """Copies that straddle folds would call for a weak penalty; whole groups call for a strong one."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 60, generator=generator).repeat_interleave(4, 0)
    y = torch.randint(0, 2, (40,), generator=generator).repeat_interleave(4)
    torn = fit(x, y)
    whole = fit(x, y, groups=np.repeat(range(40), 4))
    assert torn.l2 < whole.l2 == 1000


def test_shapes_that_do_not_fit(three) -> None:
    x, y = three
    readout = fit(x, y, kind=Linear(l2=1.0))
    with pytest.raises(ValueError, match=r"trained at width 6, got \[2, 5\]"):
        readout(torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"one label a row, got \[400, 6\] and 3"):
        fit(x, y[:3])
    x[7, 1] = float("nan")
    with pytest.raises(ValueError, match=r"x: activations of 1 of 400 rows are NaN.*at row 7"):
        fit(x, y)


def test_readout_of_a_store(make_store, three) -> None:
    x, y = three
    store = make_store({"blocks.0.resid_post": x}, group=np.arange(400) // 4, colour=y)
    readout = fit_readout(store, 0)
    assert (readout.site, readout.label) == ("blocks.0.resid_post", "colour")
    assert readout.about["store_key"] == store.key
    assert np.mean([a == b for a, b in zip(readout.predict(x), y, strict=True)]) > 0.7
