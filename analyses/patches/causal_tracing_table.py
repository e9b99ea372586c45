"""The table of causal tracing: effects by token, or by the role of tokens in unlike prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from layerscope.analyses.material.resampling import mean_intervals
from layerscope.hooks.prompts import Prompts

if TYPE_CHECKING:
    import pandas as pd

ROLES = (
    "before the subject",
    "first subject token",
    "middle subject tokens",
    "last subject token",
    "first token after",
    "further tokens",
    "last token",
)
"""Places that all prompts have, as in Meng et al."""


@dataclass(eq=False)
class Trace:
    """What became of one prompt."""

    prompt: int
    span: Sequence[int]
    """Positions of the subject."""
    length: int
    clean: float
    """Probability of the answer without noise."""
    correct: bool
    corrupt: float = float("nan")
    """With noise, mean over the draws."""
    restored: Tensor | None = None
    """`[kinds, blocks, positions]` with noise and one clean state, mean over the draws."""


def known_only(traces: Sequence[Trace], known: bool) -> tuple[list[Trace], tuple[str, ...]]:
    """The prompts that count, and how many do not.

    Raises:
        ValueError: none does.
    """
    kept = [trace for trace in traces if trace.correct or not known]
    if not kept:
        raise ValueError(
            "the model answers none of the prompts right, so there is nothing to break; known=False "
            "traces them all the same"
        )
    left = len(traces) - len(kept)
    said = f"{left} of {len(traces)} prompts are not answered right, and are left out."
    return kept, (said,) if left else ()


def table_of(
    traces: Sequence[Trace], prompts: Prompts, kinds: Sequence[str], width: int, *, seed: int
) -> pd.DataFrame:
    """One line for each kind, block and place; ``value`` is the mean indirect effect."""
    import pandas as pd

    places = _places(traces, prompts)
    clean = np.array([trace.clean for trace in traces])
    corrupt = np.array([trace.corrupt for trace in traces])
    effects = _by_place(traces, places)  # [prompts, kinds, blocks, places], NaN where there is none
    shape = effects.shape[1:]
    there = ~np.isnan(effects).reshape(len(traces), -1)
    flat = np.nan_to_num(effects).reshape(len(traces), -1)
    counts = there.sum(0)
    mean = flat.sum(0) / counts
    low, high = _intervals(flat, there, seed)
    total = (there * (clean - corrupt)[:, None]).sum(0) / counts
    lines = []
    for number, (kind, block, place) in enumerate(np.ndindex(*shape)):
        label, position = places.labels[place]
        lines.append(
            {
                "direction": "restore",
                "site": f"blocks.{block}.{kinds[kind]}",
                "kind": kinds[kind],
                "layer": block,
                "head": None,
                "position": position,
                "token": label,
                "window": 1 if kinds[kind].startswith("resid") else width,
                "value": mean[number],
                "ci_low": low[number],
                "ci_high": high[number],
                "share": mean[number] / total[number],
                "total": total[number],
                "clean": clean.mean(),
                "corrupt": corrupt.mean(),
                "subject": label in places.subjects,
                "n": int(counts[number]),
                "unit": "probability",
                "estimator": "restored - corrupt",
            }
        )
    table = pd.DataFrame(lines)
    return table.astype(dict.fromkeys(("layer", "head", "position"), "Int64"))


@dataclass(frozen=True, eq=False)
class _Places:
    """For each prompt and position, the place it belongs to."""

    labels: Sequence[tuple[str, int | None]]
    of: Sequence[Sequence[int]]
    subjects: frozenset[str]


def _places(traces: Sequence[Trace], prompts: Prompts) -> _Places:
    """Single tokens where the prompts are built alike, else roles."""
    if len({(trace.length, *trace.span) for trace in traces}) == 1:
        first = traces[0]
        columns = zip(*(prompts.tokens(t.prompt)[: t.length] for t in traces), strict=True)
        labels = []
        for position, tokens in enumerate(columns):
            different = list(dict.fromkeys(tokens))
            label = different[0] if len(different) == 1 else f"{different[0]} …"
            labels.append((f"{label}{'*' * (position in first.span)}", position))
        subjects = frozenset(labels[p][0] for p in first.span)
        return _Places(labels, [range(first.length)] * len(traces), subjects)
    of = [[_role(trace, position) for position in range(trace.length)] for trace in traces]
    used = sorted({role for roles in of for role in roles})
    numbers = {role: number for number, role in enumerate(used)}
    return _Places(
        [(ROLES[role], None) for role in used],
        [[numbers[role] for role in roles] for roles in of],
        frozenset(name for name in ROLES if "subject token" in name),
    )


def _role(trace: Trace, position: int) -> int:
    first, last = trace.span[0], trace.span[-1]
    if position in trace.span:
        return 3 if position == last else 1 if position == first else 2
    if position == trace.length - 1:
        return 6
    if position < last:
        return 0 if position < first else 2
    return 4 if position == last + 1 else 5


def _by_place(traces: Sequence[Trace], places: _Places) -> np.ndarray:
    found = []
    for trace, of in zip(traces, places.of, strict=True):
        assert trace.restored is not None
        effect = trace.restored - trace.corrupt
        sums = effect.new_zeros(*effect.shape[:2], len(places.labels))
        where = torch.tensor(list(of))
        sums.index_add_(2, where, effect)
        counts = torch.bincount(where, minlength=len(places.labels))
        found.append((sums / counts).numpy())
    return np.stack(found)


def _intervals(flat: np.ndarray, there: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts drawn again; places that few prompts have are drawn among those that have them."""
    low, high = np.full(flat.shape[1], np.nan), np.full(flat.shape[1], np.nan)
    for pattern in np.unique(there, axis=1).T:
        same = (there == pattern[:, None]).all(0)
        part = flat[pattern][:, same]
        low[same], high[same] = mean_intervals(part, np.ones(len(part)), seed=seed)
    return low, high
