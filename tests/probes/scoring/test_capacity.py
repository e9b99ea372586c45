"""Random labels: Cover's count against linear programming, least squares against its formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from layerscope.probes.scoring.capacity import memorised, separable


def is_separable(x: np.ndarray, y: np.ndarray) -> bool:
    signed = y[:, None] * np.concatenate([x, np.ones((len(x), 1))], 1)
    found = linprog(
        np.zeros(signed.shape[1]), A_ub=-signed, b_ub=-np.ones(len(x)), bounds=(None, None)
    )
    return bool(found.status == 0)


@pytest.mark.parametrize("rows", [7, 12])
def test_covers_share_of_labels_is_what_linear_programs_separate(rows) -> None:
    generator = np.random.default_rng(0)
    found = [
        is_separable(generator.standard_normal((rows, 5)), generator.choice([-1, 1], rows))
        for _ in range(200)
    ]
    expected = separable(rows, 5)
    assert np.mean(found) == pytest.approx(expected, abs=3 * (0.25 / 200) ** 0.5)


def test_least_squares_remembers_as_much_as_the_formula_says() -> None:
    generator = np.random.default_rng(0)
    for width, expected in ((10, 0.595), (50, 0.7207), (99, 0.841)):
        x = np.concatenate([generator.standard_normal((200, width)), np.ones((200, 1))], 1)
        hat = x @ np.linalg.pinv(x)
        y = generator.choice([-1, 1], (200, 300))
        assert memorised(200, width) == pytest.approx(expected, abs=0.001)
        assert np.mean(np.sign(hat @ y) == y) == pytest.approx(expected, abs=0.012)


def test_the_ends() -> None:
    assert separable(6, 5) == 1 == memorised(6, 5)
    assert separable(7, 5) == pytest.approx(1 - 2 / 2**7)
    assert memorised(10**9, 5) == pytest.approx(0.5, abs=1e-4)
