"""Ridge, mass-mean and LDA: theory, scikit-learn, and what must not change them."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import StandardScaler

from layerscope.probes.fitting import fit
from layerscope.probes.kinds import LDA, MassMean, Ridge, as_kind
from layerscope.probes.kinds.kind import Work
from layerscope.probes.kinds.linear import NUMBER_L2
from layerscope.probes.scoring.evaluate import Measurement
from layerscope.probes.solving.design import Design
from layerscope.probes.solving.engine import Engine

CLOSED = ("ridge", "mass_mean", "lda")


@pytest.fixture
def four():
    """Four classes of 300 rows with correlated noise and unequal scales."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(1200) % 5 % 4
    mix = torch.randn(7, 7, generator=generator)
    x = (
        torch.randn(1200, 7, generator=generator) @ mix
        + 1.5 * torch.randn(4, 7, generator=generator)[y]
    )
    return x * torch.tensor([1, 20, 0.1, 1, 3, 1, 1]) + 5, y


@pytest.mark.parametrize("kind", CLOSED)
@pytest.mark.parametrize("gap", [1.0, 2.0, 3.0])
def test_two_gaussians_are_told_apart_as_often_as_theory_says(gaussians, kind, gap, scored) -> None:
    """Accuracy is Phi(gap / 2): .6915, .8413, .9332."""
    x, y = gaussians(gap, 20_000)
    assert scored(kind, x, y)["value"] == pytest.approx(NormalDist().cdf(gap / 2), abs=0.01)


def test_mass_mean_and_lda_where_noise_is_anisotropic(scored) -> None:
    """Sigma = diag(25, 1, ...), theta = (2, 2, 0, ...): .6526, and .8461 with the noise whitened."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(20_000) % 2
    x = torch.randn(20_000, 10, generator=generator)
    x[:, 0] *= 5
    x[:, :2] += 2 * (y - 0.5)[:, None]
    assert scored("mass_mean", x, y)["value"] == pytest.approx(0.6526, abs=0.01)
    assert scored("lda", x, y)["value"] == pytest.approx(0.8461, abs=0.01)
    direction = fit(x, y, kind="mass_mean").directions
    theta = x[y == 1].mean(0) - x[y == 0].mean(0)
    torch.testing.assert_close(direction[1] - direction[0], theta, atol=1e-4, rtol=1e-4)


def test_ridge_is_scikit_learns(four) -> None:
    x, y = four
    readout = fit(x, y, kind=Ridge(l2=30.0))
    z = StandardScaler().fit_transform(x.double())
    one_hot = np.eye(4)[y]
    expected = SklearnRidge(alpha=30.0).fit(z, one_hot).predict(z)
    np.testing.assert_allclose(readout(x), expected, atol=1e-4)
    assert readout.predict(x) == RidgeClassifier(alpha=30.0).fit(z, y).predict(z).tolist()
    assert readout.l2 == 30


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_lda_is_scikit_learns(four, shrinkage) -> None:
    x, y = four
    readout = fit(x, y, kind=LDA(shrinkage=shrinkage))
    z = StandardScaler().fit_transform(x.double())
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(z, y)
    np.testing.assert_allclose(readout.probabilities(x), model.predict_proba(z), atol=1e-4)
    if not shrinkage:  # without shrinkage it does not see how features are scaled
        exact = LinearDiscriminantAnalysis().fit(x.double(), y)
        np.testing.assert_allclose(
            readout.probabilities(x), exact.predict_proba(x.double()), atol=1e-4
        )


def test_mass_mean_is_the_nearest_centroid(four) -> None:
    x, y = four
    readout = fit(x, y, kind="mass_mean")
    assert readout.predict(x) == NearestCentroid().fit(x.double(), y).predict(x).tolist()


@pytest.mark.parametrize("kind", CLOSED)
def test_out_of_fold_is_a_fit_without_the_fold(four, kind, scored) -> None:
    """Against readouts trained on the other folds, one by one."""
    x, y = four
    options = {"ridge": Ridge(l2=10.0), "mass_mean": MassMean(), "lda": LDA(shrinkage=0.2)}[kind]
    hits = []
    for fold in range(5):
        held = torch.zeros(1200, dtype=torch.bool)
        held[fold * 240 : (fold + 1) * 240] = True
        guess = fit(x[~held], y[~held], kind=options).predict(x[held])
        hits += [a == b for a, b in zip(guess, y[held].tolist(), strict=True)]
    line = scored(options, x, y, classes=4)
    assert line["value"] == pytest.approx(np.mean(hits), abs=1e-9)


@pytest.mark.parametrize("kind", CLOSED)
def test_the_order_and_origin_of_features_do_not_matter(four, kind, scored) -> None:
    x, y = four
    moved = x.flip(1) + torch.arange(7)
    assert scored(kind, moved, y, classes=4)["value"] == pytest.approx(
        scored(kind, x, y, classes=4)["value"], abs=0.002
    )


def test_scales_matter_to_mass_mean_alone(four, scored) -> None:
    x, y = four
    scaled = x * torch.tensor([100.0, 1, 1, 1, 1, 1, 1])
    for kind in ("ridge", "lda"):
        assert scored(kind, scaled, y, classes=4)["value"] == pytest.approx(
            scored(kind, x, y, classes=4)["value"], abs=0.002
        )
    assert scored("mass_mean", scaled, y, classes=4) != scored("mass_mean", x, y, classes=4)


def test_more_features_than_rows(scored) -> None:
    """LDA is well posed by shrinking; the bare pseudo-inverse is worst where rows equal features."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(250) % 2
    x = torch.randn(250, 200, generator=generator)
    x[:, :20] += 0.8 * (y - 0.5)[:, None]
    chosen, bare = scored("lda", x, y), scored(LDA(shrinkage=0.0), x, y)
    assert chosen["lambda"] >= 0.2
    assert chosen["value"] > bare["value"] + 0.15
    wide = torch.cat([x, torch.randn(250, 300, generator=generator)], 1)
    for kind in CLOSED:
        line = scored(kind, wide, y)
        assert 0.6 < line["value"] < 1, kind


@pytest.mark.parametrize("kind", CLOSED)
def test_constant_features_get_no_weight(four, kind, scored) -> None:
    x, y = four
    with_constant = torch.cat([x, torch.full((1200, 1), 7.0)], 1)
    assert scored(kind, with_constant, y, classes=4)["value"] == pytest.approx(
        scored(kind, x, y, classes=4)["value"], abs=0.002
    )
    assert scored(kind, torch.ones(100, 3), torch.arange(100) % 2)["value"] == pytest.approx(
        0.5, abs=0.01
    )


@pytest.mark.parametrize("kind", CLOSED)
def test_a_class_that_training_rows_lack_is_never_said(kind, scored) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 3, generator=generator) * 1000
    y = torch.arange(100) % 2
    y[:20] = 2  # the whole first fold
    line = scored(kind, x, y, classes=3)
    assert line["balanced"] < 0.5


@pytest.mark.parametrize("kind", CLOSED)
def test_shuffled_labels_come_out_as_chance(gaussians, kind, scored) -> None:
    x, _ = gaussians(2.0, 4000, width=16)
    y = torch.from_numpy(np.random.default_rng(0).permutation(np.arange(4000) % 2))
    line = scored(kind, x, y)
    assert line["ci_low"] < 0.5 < line["ci_high"]


@pytest.mark.parametrize("kind", CLOSED)
def test_the_control_task_comes_from_the_same_sums(gaussians, kind, planned) -> None:
    """Targets scored together are scored as they would be alone."""
    x, y = gaussians(2.0, 900, width=8)
    types = np.arange(900) % 40
    both = Measurement(planned(y.numpy(), types=types), as_kind(kind), solver="torch")
    line = both.score("x", x)
    control = both.targets[1].numpy()
    alone = Measurement(planned(control), as_kind(kind), solver="torch").score("x", x)
    if kind == "mass_mean":  # nothing is tuned, so nothing depends on the first target
        assert line["control"] == pytest.approx(alone["value"])
    assert abs(line["control"] - alone["value"]) < 0.03


def test_numbers_are_read_by_ridge_as_by_the_default(scored) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 5, generator=generator)
    y = (x[:, 0] + torch.randn(500, generator=generator)).double()
    assert scored("ridge", x, y, classes=0) == scored("linear", x, y, classes=0)
    torch.testing.assert_close(fit(x, y, kind="ridge")(x), fit(x, y)(x))
    with pytest.raises(ValueError, match="label is a number, which kind='lda' cannot predict"):
        fit(x, y, kind="lda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", CLOSED)
def test_on_cuda_as_on_the_processor(four, kind, planned) -> None:
    x, y = four
    lines = [
        Measurement(
            planned(y.numpy(), classes=4), as_kind(kind), solver="torch", device=device
        ).score("x", x)
        for device in ("cpu", "cuda")
    ]
    assert lines[0]["value"] == pytest.approx(lines[1]["value"], rel=1e-3)


def test_the_penalty_of_ridge_is_the_best_on_the_next_fold() -> None:
    """Chosen again by hand: scikit-learn's fits on three folds, squared errors on the fourth."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 2
    x = torch.randn(200, 60, generator=generator)
    x[:, :10] += 0.5 * (y - 0.5)[:, None]
    bounds = list(range(0, 201, 40))
    work = Work(Design.of(x, bounds), y[None], 2, Engine("torch", "cpu"), np.arange(200))
    fold_of = np.arange(200) // 40
    expected = []
    for fold in range(5):
        following = (fold + 1) % 5
        train, held = ~np.isin(fold_of, [fold, following]), fold_of == following
        scaler = StandardScaler().fit(x[train].double())
        z, one_hot = scaler.transform(x.double()), np.eye(2)[y]
        errors = [
            np.square(
                SklearnRidge(alpha=l2).fit(z[train], one_hot[train]).predict(z[held])
                - one_hot[held]
            ).sum()
            for l2 in NUMBER_L2
        ]
        expected.append(NUMBER_L2[int(np.argmin(errors))])
    assert Ridge().predict(work).penalties == tuple(expected)
    assert NUMBER_L2[-1] < min(expected) <= max(expected) < NUMBER_L2[0]


@pytest.mark.parametrize("shrinkage", [None, 0.0, 0.01, 1.0])
def test_lda_where_no_row_differs_from_its_class(scored, shrinkage) -> None:
    """One-hot rows: every class is a single point, and none is confused with another."""
    y = torch.arange(600) % 6
    rows = torch.nn.functional.one_hot(y, 6).float()
    for x in (rows, 100 * rows @ torch.randn(6, 9, generator=torch.Generator().manual_seed(1)) + 5):
        assert scored(LDA(shrinkage=shrinkage), x, y, classes=6)["value"] == 1.0
        assert fit(x, y, kind=LDA(shrinkage=shrinkage)).predict(x) == y.tolist()


def test_lda_where_hardly_any_row_differs_from_its_class(scored) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(6, (600,), generator=generator)
    x = torch.nn.functional.one_hot(y, 6) + 1e-5 * torch.randn(600, 6, generator=generator)
    assert scored("lda", x, y, classes=6)["value"] == 1.0
    noisy = torch.cat([x, torch.randn(600, 3, generator=generator)], 1)
    assert scored("lda", noisy, y, classes=6)["value"] == 1.0


@pytest.mark.parametrize("kind", CLOSED)
def test_a_collapsed_class_that_training_rows_lack_is_never_said(kind, scored) -> None:
    y = torch.arange(100) % 3
    y[:20] = 3  # the whole first fold
    line = scored(kind, torch.nn.functional.one_hot(y, 4).float(), y, classes=4)
    assert line["value"] == pytest.approx(0.8)
