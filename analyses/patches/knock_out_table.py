"""The table of attention knock-out: what each window of each flow costs the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from layerscope.analyses.material.resampling import mean_intervals
from layerscope.analyses.patches.flows import Flow

if TYPE_CHECKING:
    import pandas as pd


class Cut:
    """What became of one prompt."""

    def __init__(self, prompt: int, counts: bool, logprob: float, flows: int, blocks: int) -> None:
        self.prompt = prompt
        self.counts = counts
        """Whether it is among those that are averaged."""
        self.whole = logprob
        """Log probability of the answer, nothing cut."""
        self.logprob = np.full((flows, blocks), np.nan)
        self.correct = np.zeros((flows, blocks))

    def fill(
        self,
        flow: int,
        windows: Sequence[tuple[int, int]],
        ran: Sequence[tuple[int, int]],
        logprob: Tensor,
        correct: Tensor,
    ) -> None:
        """Take over one flow: what each window that ran gave goes to all blocks it is around."""
        for block, ends in enumerate(windows):
            self.logprob[flow, block] = float(logprob[ran.index(ends)])
            self.correct[flow, block] = float(correct[ran.index(ends)])


def table_of(
    cuts: Sequence[Cut],
    flows: Sequence[Flow],
    windows: Sequence[tuple[int, int]],
    *,
    own: bool,
    seed: int,
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One line for each flow and block, and what to beware of."""
    import pandas as pd

    kept = [cut for cut in cuts if cut.counts]
    whole = np.array([cut.whole for cut in kept])
    after = np.stack([cut.logprob for cut in kept])
    relative = np.exp(after - whole[:, None, None]) - 1
    drop = after - whole[:, None, None]
    right = np.stack([cut.correct for cut in kept])
    low, high = _intervals(relative, seed)
    log_low, log_high = _intervals(drop, seed)
    lines = []
    for f, flow in enumerate(flows):
        for block, (first, end) in enumerate(windows):
            lines.append(
                {
                    "flow": flow.name,
                    "site": f"blocks.{block}.pattern",
                    "layer": block,
                    "first": first,
                    "end": end,
                    "position": flow.position,
                    "token": flow.token,
                    "value": relative[:, f, block].mean(),
                    "ci_low": low[f, block],
                    "ci_high": high[f, block],
                    "logprob": drop[:, f, block].mean(),
                    "logprob_low": log_low[f, block],
                    "logprob_high": log_high[f, block],
                    "kept": right[:, f, block].mean(),
                    "prob": np.exp(whole).mean(),
                    "n": len(kept),
                    "unit": "relative change of probability",
                    "estimator": "the model's own answer" if own else "the given answer",
                }
            )
    table = pd.DataFrame(lines).astype({"position": "Int64"})
    return table, _notes(cuts, kept, whole)


def _intervals(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    flat = values.reshape(len(values), -1)
    low, high = mean_intervals(flat, np.ones(len(values)), seed=seed)
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def _notes(cuts: Sequence[Cut], kept: Sequence[Cut], whole: np.ndarray) -> tuple[str, ...]:
    notes = []
    left = len(cuts) - len(kept)
    if left:
        notes.append(f"{left} of {len(cuts)} prompts are not answered right, and are left out.")
    if (whole < np.log(0.01)).any():
        count = int((whole < np.log(0.01)).sum())
        notes.append(
            f"In {count} prompts the answer has a probability below 1 %, of which relative changes "
            "mean little: read the column logprob."
        )
    if len(kept) == 1:
        notes.append("One prompt: there is no interval, and nothing here is known to be general.")
    return tuple(notes)
