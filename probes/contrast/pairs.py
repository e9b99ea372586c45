"""Contrast pairs in a store: which text is which side of which statement, and which side is true."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerscope.probes.kinds.kind import Asked
from layerscope.probes.reading.rows import Plan, codes_of
from layerscope.probes.reading.texts import Texts, plan_of, texts_of, two_classes

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.store import Store


@dataclass(frozen=True)
class Pairs:
    """Pairs sorted by fold; ``plan.values`` is what is to be found, 0 or 1 for each pair."""

    plan: Plan
    first: NDArray[np.int64]
    """``[pairs]`` row number of the first side: the last row of its text."""
    second: NDArray[np.int64]
    sides: tuple[str, str]
    """What the two sides are called."""


def pairs_of(store: Store, asked: Asked, pair: str, side: str) -> Pairs:
    """The pairs of which both sides are there.

    The label either differs within every pair (each text says whether it is true itself), or is
    the same in both (what the pair as a whole is); a mixture is refused.

    Raises:
        LookupError: no such columns or label.
        ValueError: not two sides, a side that is there twice, no whole pair, or labels that
            differ in some pairs only.
    """
    texts = texts_of(store, asked.label, also=(pair, side))
    notes = list(texts.notes)
    sides = _sides(texts.frame, side)
    numbers = _matched(texts, pair, side, sides, notes)
    first, second = (texts.frame.iloc[part].reset_index(drop=True) for part in numbers.T)
    lines = first[[texts.label]].copy()
    kept, what = _meaning(first[texts.label], second[texts.label], texts.label)
    lines["group"] = _groups(first, second, pair, notes)
    chosen = plan_of(lines[kept], texts.label, asked)
    two_classes(chosen, "ccs")
    numbers = numbers[kept][chosen.index]
    notes.append(
        f"{what}; sides {sides[0]!r} and {sides[1]!r}, each read at the last row of its text"
    )
    return Pairs(
        replace(chosen, notes=(*notes, *chosen.notes)),
        texts.last[numbers[:, 0]],
        texts.last[numbers[:, 1]],
        sides,
    )


def _sides(frame: pd.DataFrame, side: str) -> tuple[str, str]:
    there = sorted(map(str, frame[side].dropna().unique()))
    if len(there) != 2:
        raise ValueError(
            f"column {side!r} must name the two sides of each pair, such as 'yes' and 'no'; "
            f"it has {len(there)}: {', '.join(there[:5])}"
        )
    return there[0], there[1]


def _matched(
    texts: Texts, pair: str, side: str, sides: tuple[str, str], notes: list[str]
) -> NDArray[np.int64]:
    """``[pairs, 2]`` which text is the first side, and which the second."""
    frame = texts.frame.assign(number=range(len(texts))).dropna(subset=[pair, side])
    frame[side] = frame[side].astype(str)
    frame[pair] = frame[pair].astype(object)
    twice = frame.duplicated([pair, side])
    if twice.any():
        line = frame[twice].iloc[0]
        raise ValueError(
            f"{pair} {line[pair]!r} has side {line[side]!r} more than once; give every statement "
            "its own pair"
        )
    wide = frame.pivot(index=pair, columns=side, values="number").reindex(columns=list(sides))
    whole = wide.dropna()
    if not len(whole):
        raise ValueError(
            f"no {pair} has both sides, {sides[0]!r} and {sides[1]!r}; the two texts of a pair need "
            "the same value there"
        )
    if len(whole) < len(wide):
        notes.append(f"{len(wide) - len(whole):,} of {len(wide):,} pairs lack a side: left out")
    return whole.to_numpy().astype(np.int64)


def _meaning(
    first: pd.Series[Any], second: pd.Series[Any], label: str
) -> tuple[NDArray[np.bool_], str]:
    """Which pairs count, and what the value of a pair means."""
    values = sorted({*map(str, first), *map(str, second)})
    if len(values) > 2:
        raise ValueError(
            f"kind='ccs' tells two classes apart, and {label} has {len(values)}: "
            f"{', '.join(values[:5])}"
        )
    same = first.astype(object).to_numpy() == second.astype(object).to_numpy()
    if same.all():
        return np.ones(len(same), bool), f"{label} belongs to the pair"
    if same.any():
        raise ValueError(
            f"{label} differs between the sides of {int((~same).sum()):,} pairs and not of "
            f"{int(same.sum()):,}: give either the truth of each text, or one answer for the pair"
        )
    return ~same, f"{label} of a pair is that of its first side, the second has the other value"


def _groups(
    first: pd.DataFrame, second: pd.DataFrame, pair: str, notes: list[str]
) -> NDArray[np.int64] | pd.Series[Any]:
    """The groups of the pairs; a pair is its own where its sides are in different ones."""
    if "group" not in first:
        return first[pair]
    ours, theirs = (frame["group"].astype(object).to_numpy() for frame in (first, second))
    if (ours == theirs).all():
        return codes_of(first["group"])
    notes.append("the group column parts the sides of pairs, so each pair is a group of its own")
    return np.arange(len(first), dtype=np.int64)
