"""What a reader of a probe's table must know before believing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerscope.probes.reading.rows import Plan
from layerscope.probes.scoring.capacity import memorised, separable
from layerscope.probes.scoring.evaluate import Measurement

Line = dict[str, Any]


def cautions(measured: Measurement, lines: Sequence[Line]) -> list[str]:
    """Notes on one label.

    Args:
        measured: What was measured.
        lines: Of the sites, with what `faults` found under ``"constant"`` and ``"straddling"``.
    """
    chosen = measured.plan
    notes = [f"{measured.kind.rule}; {solvers(lines)}"]
    notes += _few_rows(chosen, max(line["width"] for line in lines))
    notes += _groups(chosen)
    notes += _constant(lines) + _straddling(chosen, lines)
    if measured.control and chosen.types is None:
        notes.append("no control task: rows are not words, so there are no word types")
    unfinished = sum(line["unfinished"] for line in lines)
    if unfinished:
        notes.append(f"{unfinished} probes stopped before they had converged")
    best = max(lines, key=lambda line: line["value"])
    if best.get("selectivity", 1.0) < 0.1 * max(best["value"], 0):
        notes.append(
            f"the best probe does nearly as well on random labels per word "
            f"({best['control']:.3f}): it may know the words, not the label"
        )
    notes.append("a probe shows what can be read off a layer, not what the model uses")
    return notes


def solvers(lines: Sequence[Line]) -> str:
    """Who solved the fits."""
    return ", ".join(dict.fromkeys(line["solver"] for line in lines))


def joined(notes: dict[str, Sequence[str]]) -> tuple[str, ...]:
    """Notes of several labels: those of all said once, the others with their label before them."""
    if len(notes) == 1:
        return tuple(next(iter(notes.values())))
    every = [set(part) for part in notes.values()]
    shared = set.intersection(*every)
    first = next(iter(notes.values()))
    own = [
        f"{label}: {note}" for label, part in notes.items() for note in part if note not in shared
    ]
    return (*(note for note in first if note in shared), *own)


def _few_rows(chosen: Plan, width: int) -> list[str]:
    train = len(chosen.index) * (chosen.folds - 1) // chosen.folds
    if train >= 2 * (width + 1):
        return []
    note = (
        f"{train:,} training rows for {width:,} features: below two rows a feature a linear probe "
        "separates random labels (of two classes without error with probability "
        f"{separable(train, width):.2g}, by Cover 1965; plain least squares would get "
        f"{memorised(train, width):.0%} of its training rows right), so trust held-out rows and "
        "selectivity"
    )
    return [note]


def _groups(chosen: Plan) -> list[str]:
    groups = int(chosen.groups.max()) + 1
    notes = []
    if groups < 20:
        notes.append(f"intervals rest on {groups} groups only, and are likely too narrow")
    if groups < len(chosen.index) and _one_each(chosen):
        notes.append(
            f"{chosen.label} is the same in all rows of a group: what is sampled are the {groups:,} "
            f"groups, not the {len(chosen.index):,} rows, and a probe can know it by knowing groups; of "
            "a label of whole texts, rows='texts:mean' makes one row of each"
        )
    return notes


def _one_each(chosen: Plan) -> bool:
    """Whether every group has one label only."""
    order = np.lexsort((chosen.values, chosen.groups))
    groups, values = chosen.groups[order], chosen.values[order]
    return not bool(((groups[1:] == groups[:-1]) & (values[1:] != values[:-1])).any())


def _constant(lines: Sequence[Line]) -> list[str]:
    found = [line for line in lines if line.get("constant")]
    if not found:
        return []
    worst = max(found, key=lambda line: line["constant"] / line["width"])
    more = f", and fewer at {len(found) - 1} other sites" if len(found) > 1 else ""
    note = (
        f"{worst['constant']:,} of {worst['width']:,} features at {worst['site']} are constant and "
        f"get no weight{more}"
    )
    return [note]


def _straddling(chosen: Plan, lines: Sequence[Line]) -> list[str]:
    found = [line for line in lines if line.get("straddling")]
    if not found:
        return []
    named = ", ".join(f"{line['straddling']:,} at {line['site']}" for line in found[:3])
    more = f" and at {len(found) - 3} more sites" if len(found) > 3 else ""
    why = " (the same words, or the same beginnings of texts)" * (chosen.types is not None)
    note = (
        f"of {len(chosen.index):,} rows, some are (nearly) the same as a row of another fold, so "
        f"the probe has seen them in training: {named}{more}{why}"
    )
    return [note]
