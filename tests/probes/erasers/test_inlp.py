"""INLP: accuracy falls step by step; where noise is anisotropic it needs many directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.planted.gaussian_classes import gaussian_classes
from layerscope.probes.erasers import LeaceFit
from layerscope.probes.erasers.inlp import inlp


def last_quarter(rows: int) -> np.ndarray:
    return np.arange(rows) >= 0.75 * rows


@pytest.mark.parametrize(
    ("classes", "gap", "accuracies"),
    [(2, 4.2, (0.982, 0.607, 0.506)), (4, 4.2, (0.958, 0.416, 0.259))],
)
def test_isotropic_classes_are_gone_after_two_probes(
    classes: int, gap: float, accuracies: tuple[float, ...]
) -> None:
    planted = gaussian_classes(classes, 8000, 30, gap=gap)
    eraser = inlp(planted.x, planted.y.numpy(), last_quarter(8000), classes=classes)
    scores = eraser.about["scores"]
    assert eraser.about["reached"]
    assert len(scores) == 3
    assert eraser.rank == 2 * (classes - 1)
    # The second figure hangs on how far the first probe is from the best one.
    for found, expected, off in zip(scores, accuracies, (0.01, 0.06, 0.02), strict=True):
        assert found == pytest.approx(expected, abs=off)


def test_anisotropic_noise_needs_many_directions_where_leace_needs_one() -> None:
    planted = gaussian_classes(2, 4000, 30, gap=8, octaves=8)
    y, dev = planted.y.numpy(), last_quarter(4000)
    eraser = inlp(planted.x, y, dev, classes=2, steps=12)
    scores = eraser.about["scores"]
    assert eraser.rank == 12
    assert scores[0] > 0.99
    assert scores[-1] == pytest.approx(0.617, abs=0.05)
    assert not eraser.about["reached"]
    leace = LeaceFit(30, [0, 1]).update(planted.x[~dev], y[~dev]).result()
    assert leace.rank == 1
    left = inlp(leace(planted.x), y, dev, classes=2, steps=1)
    assert left.about["scores"][0] <= left.about["enough"]


def test_the_map_is_an_orthogonal_projection_about_the_mean() -> None:
    planted = gaussian_classes(3, 1500, 10, gap=3)
    eraser = inlp(planted.x + 7, planted.y.numpy(), last_quarter(1500), classes=3)
    identity = torch.eye(eraser.rank, dtype=torch.float64)
    torch.testing.assert_close(eraser.remove.T @ eraser.remove, identity, atol=1e-12, rtol=0)
    once = eraser(planted.x + 7)
    torch.testing.assert_close(eraser(once), once)
    torch.testing.assert_close(eraser(eraser.center), eraser.center)


def test_numbers_stop_where_ridge_explains_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 8, generator=generator, dtype=torch.float64)
    z = (2 * x[:, 3] - x[:, 5]).numpy()
    eraser = inlp(x, z, last_quarter(2000), classes=0)
    assert eraser.about["scores"][0] > 0.99
    assert eraser.about["scores"][-1] <= 0
    truth = torch.zeros(8, dtype=torch.float64)
    truth[3], truth[5] = 2 / 5**0.5, -1 / 5**0.5
    assert (eraser.read @ truth).norm() == pytest.approx(1.0, abs=1e-4)


def test_it_ends_when_no_direction_is_left() -> None:
    planted = gaussian_classes(4, 400, 4, gap=9, octaves=0)
    y = planted.y.numpy()
    eraser = inlp(planted.x, y, last_quarter(400), classes=4, steps=50)
    assert eraser.rank <= 4
    assert len(eraser.about["scores"]) <= 4
