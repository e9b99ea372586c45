"""Which latents a page shows: some by a rule, some by chance, so that it is no row of winners only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

BY_RULE = 2 / 3
"""Of the latents shown; the others are drawn at random among those that fire."""
LEAST = 10
"""Firings that the rule asks for."""
COMMON = 0.1
"""Latents that fire on a greater share of the rows are left to chance."""
RULES = {
    True: "the greatest F1 for a class above shuffled labels",
    False: "the strongest writing where they fire (mean squared code times squared decoder norm)",
}
"""By whether there is a label."""


def choose(table: pd.DataFrame, shown: int, *, seed: int) -> tuple[NDArray[np.int64], list[str]]:
    """Lines of the table to show, in order, and why each.

    Args:
        table: Has fired, density, energy, and score and null where there is a label.
    """
    labelled = "score" in table
    worth = table["score"] - table["null"] if labelled else table["energy"] / table["fired"]
    fit = (table["fired"] >= LEAST) & (table["density"] <= COMMON) & worth.notna()
    ranked = worth.where(fit).to_numpy(dtype=np.float64)
    order = np.argsort(-np.nan_to_num(ranked, nan=-np.inf), kind="stable")[: int(fit.sum())]
    best = order[: round(shown * BY_RULE)]
    alive = np.setdiff1d(np.flatnonzero(table["fired"] > 0), best)
    count = min(shown - len(best), len(alive))
    lucky = np.sort(np.random.default_rng(seed).choice(alive, count, replace=False))
    return np.concatenate([best, lucky]), ["rule"] * len(best) + ["random"] * len(lucky)
