"""How well label errors would be found in these data: some labels are changed, and looked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Planted:
    """Labels of which a known share was changed."""

    codes: NDArray[np.int64]
    """``[rows]`` with the changes."""
    changed: NDArray[np.bool_]
    """``[rows]``"""


def planted(codes: NDArray[np.int64], classes: int, share: float, *, seed: int) -> Planted:
    """Change a share of the labels, at random, to another class drawn from how common they are.

    Args:
        codes: ``[rows]`` class numbers.
        share: Of all rows; at least one row.
    """
    generator = np.random.default_rng(seed)
    count = max(1, round(share * len(codes)))
    rows = generator.permutation(len(codes))[:count]
    new = codes.copy()
    weights = np.bincount(codes, minlength=classes).astype(np.float64)
    for row in rows:
        others = weights.copy()
        others[codes[row]] = 0.0
        new[row] = generator.choice(classes, p=others / others.sum())
    changed = np.zeros(len(codes), dtype=bool)
    changed[rows] = True
    return Planted(new, changed)


def found(flags: NDArray[np.bool_], changed: NDArray[np.bool_]) -> tuple[float, float]:
    """Precision and recall of flags for the changed rows; precision is NaN where nothing is flagged."""
    hits = float((flags & changed).sum())
    precision = hits / flags.sum() if flags.any() else float("nan")
    return float(precision), hits / float(changed.sum())
