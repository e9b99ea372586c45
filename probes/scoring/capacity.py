"""What a linear probe of some width does with labels that mean nothing."""

from __future__ import annotations

from statistics import NormalDist


def separable(rows: int, width: int) -> float:
    """Probability that random labels of two classes can be told apart without error.

    For rows in general position, a hyperplane and its offset (Cover 1965): 1 up to
    ``width + 1`` rows, one half at ``2 * (width + 1)``, and soon nothing.

    >>> separable(8, 8), separable(18, 8), separable(400, 8) < 1e-9
    (1.0, 0.5, True)
    """
    from scipy.stats import binom

    if rows <= width + 1:
        return 1.0
    return float(round(binom.cdf(width, rows - 1, 0.5), 12))


def memorised(rows: int, width: int) -> float:
    """Expected accuracy of least squares on its own training rows when labels are random.

    A fitted value holds the share ``h = (width + 1) / rows`` of its own label, and noise of
    variance ``h * (1 - h)`` from the others: accuracy is ``Phi(sqrt(h / (1 - h)))`` for two
    classes.

    >>> round(memorised(200, 99), 4), memorised(50, 99)
    (0.8413, 1.0)
    """
    share = (width + 1) / rows
    if share >= 1:
        return 1.0
    return NormalDist().cdf((share / (1 - share)) ** 0.5)
