"""How far a sampled value may lie from the true one."""

from __future__ import annotations

from math import sqrt


def three_errors(share: float, trials: int) -> float:
    """Three standard errors of a share of independent trials: exceeded by chance once in 370.

    >>> round(three_errors(0.5, 3600), 3)
    0.025
    """
    return 3 * sqrt(share * (1 - share) / trials)
