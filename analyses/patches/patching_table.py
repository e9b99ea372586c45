"""The table of a patching map: shares of the way between two runs, with intervals over pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from layerscope.analyses.material.pairs import Pairs
from layerscope.analyses.material.resampling import mean_intervals
from layerscope.analyses.patches.answer_metric import METRICS
from layerscope.analyses.patches.patch_cells import Cell

if TYPE_CHECKING:
    import pandas as pd

SMALL = 1e-6
"""A difference between the two runs below this share of their size is no difference."""


def table_of(
    pairs: Pairs,
    cells: Sequence[Cell],
    ends: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    *,
    seed: int,
) -> pd.DataFrame:
    """One line for each direction and cell.

    ``value`` is a ratio of means over pairs, which a pair that hardly differs cannot blow up:
    sum of (metric - start) over sum of (end - start).
    """
    import pandas as pd

    lines = []
    for way, found in values.items():
        start, end = (ends[e].numpy() for e in _from_to(way))
        gap = end - start
        moved = found.numpy() - start
        usable = abs(gap.sum()) > SMALL * (np.abs(start).sum() + np.abs(end).sum())
        share = moved.sum(1) / gap.sum() if usable else np.full(len(cells), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):  # resamples that cancel out
            low, high = mean_intervals(moved.T, gap, seed=seed) if usable else (share, share)
        for number, cell in enumerate(cells):
            lines.append(
                {
                    "direction": way,
                    **cell.columns(),
                    "value": share[number],
                    "ci_low": low[number],
                    "ci_high": high[number],
                    "metric": found[number].mean().item(),
                    "clean": ends["clean"].mean().item(),
                    "corrupt": ends["corrupt"].mean().item(),
                    "n": len(pairs),
                    "unit": f"share of {pairs.metric}",
                    "estimator": "patch",
                }
            )
    table = pd.DataFrame(lines)
    return table.astype(dict.fromkeys(("layer", "head", "position"), "Int64"))


def notes_of(pairs: Pairs, ends: Mapping[str, Tensor], ways: Sequence[str]) -> tuple[str, ...]:
    """What to beware of in this result."""
    gap = (ends["clean"] - ends["corrupt"]).numpy()
    better = -gap if pairs.metric == "kl" else gap
    size = float(np.abs(np.stack([ends["clean"], ends["corrupt"]])).sum())
    notes = [f"Metric: {METRICS[pairs.metric]}; 0 and 1 are the two untouched runs."]
    if abs(gap.sum()) <= SMALL * size:
        notes.append("The two runs do not differ in the metric, so shares of it are undefined.")
    behind = int((better <= 0).sum())
    if behind:
        notes.append(
            f"In {behind} of {len(gap)} pairs the clean run is no nearer to the right answer than "
            "the corrupt one; they count with their sign."
        )
    if len(pairs) == 1:
        notes.append("One pair: there is no interval, and nothing here is known to be general.")
    if list(ways) == ["denoise"]:
        notes.append(
            "Denoising shows what suffices; what is needed is found by direction='noise', and the "
            "two differ where the model has backups."
        )
    return tuple(notes)


def _from_to(way: str) -> tuple[str, str]:
    return ("corrupt", "clean") if way == "denoise" else ("clean", "corrupt")
