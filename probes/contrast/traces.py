"""Traces in a store: where each starts and ends, of which problem it is, and whether it is correct."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.kinds.kind import Asked
from layerscope.probes.reading.rows import Plan, codes_of
from layerscope.probes.reading.texts import Texts, plan_of, texts_of, two_classes
from layerscope.probes.scoring.evaluate import check_finite

if TYPE_CHECKING:
    from layerscope.store import Store

_GOOD = ("correct", "right", "true", "yes", "1")
ANSWER = "answer"

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Traces:
    """Traces in the order of `plan`."""

    plan: Plan
    correct: NDArray[np.bool_]
    start: Numbers
    """``[traces]`` row number where each starts."""
    end: Numbers
    lengths: Numbers
    """``[traces]`` rows from start to end."""
    answers: NDArray[Any] | None
    """``[traces]`` answer numbers, where the data have a column of answers."""

    def delta(self, store: Store, site: str, device: str | None = None) -> Tensor:
        """``[traces, width]`` end minus start, float32.

        Raises:
            ValueError: states that are NaN or infinite.
        """
        ends = []
        for index in (self.end, self.start):
            x = store[site][index].float()
            check_finite(site, x, index)
            ends.append(x)
        return (ends[0] - ends[1]).to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def traces_of(
    store: Store,
    asked: Asked,
    *,
    between: tuple[str, str] | None = None,
    correct: Any = None,
) -> Traces:
    """The traces that have the label; every text is one.

    Args:
        between: Marks such as ``("<think>", "</think>")``: a trace starts at the last token of the
            first one and ends at the last token of the next second one. None: from the first row of
            the text to the last.
        correct: Which value of the label means correct; None takes True, 1, ``"correct"`` or the
            like.

    Raises:
        LookupError: no such label.
        ValueError: a label without exactly two values or none that means correct, texts of one row,
            marks that no text has.
    """
    texts = texts_of(store, asked.label)
    notes = list(texts.notes)
    start, end = texts.starts[:-1], texts.starts[1:] - 1
    if between is not None:
        start, end = _marked(store, texts, between)
    there = (start >= 0) & (end > start)
    if not there.any():
        raise ValueError(_nothing(between))
    if not there.all():
        why = f"lack {between[0]!r} or {between[1]!r}" if between else "have a single row"
        notes.append(f"{int((~there).sum()):,} of {len(there):,} texts {why}: left out")
    frame = texts.frame.assign(number=np.arange(len(texts)))[there]
    if "group" not in frame:
        frame["group"] = frame["number"]
    chosen = plan_of(frame.reset_index(drop=True), texts.label, asked)
    picked = frame["number"].to_numpy()[chosen.index]
    good = good_class(two_classes(chosen, "clue"), correct, texts.label, notes)
    if len(np.unique(chosen.groups)) == len(chosen.groups):
        notes.append(
            "every trace is a group of its own; where several traces are of one problem, give "
            "group= the problem when reading the data"
        )
    return Traces(
        replace(chosen, notes=(*notes, *chosen.notes)),
        chosen.values == good,
        texts.rows[start[picked]],
        texts.rows[end[picked]],
        end[picked] - start[picked],
        _answers(store, texts, picked),
    )


def good_class(classes: tuple[Any, Any], correct: Any, label: str, notes: list[str]) -> int:
    """The class number that means correct.

    Raises:
        ValueError: neither class is `correct`, or it is not given and their names do not say.
    """
    if correct is not None:
        if correct not in classes:
            raise ValueError(
                f"correct={correct!r}, but {label} is {classes[0]!r} or {classes[1]!r}"
            )
        return classes.index(correct)
    # Where some rows have no label, 0 and 1 are held as 0.0 and 1.0.
    named = [i for i, value in enumerate(classes) if value == 1 or str(value).lower() in _GOOD]
    if len(named) != 1:
        raise ValueError(
            f"which {label} means correct, {classes[0]!r} or {classes[1]!r}? Give "
            f"CLUE(correct={classes[1]!r})"
        )
    notes.append(f"correct is {label} {classes[named[0]]!r}")
    return named[0]


def _marked(store: Store, texts: Texts, between: tuple[str, str]) -> tuple[Numbers, Numbers]:
    """Places in ``texts.rows`` of the last token of each mark, -1 where a text lacks it."""
    frame = store.rows.iloc[texts.rows]
    if "char_end" in frame and frame["char_end"].notna().all():
        return _marked_by_place(store, texts, between)
    tokens = frame["token"].astype(str).to_numpy()
    places = np.full((2, len(texts)), -1)
    for number, (a, b) in enumerate(zip(texts.starts, texts.starts[1:], strict=False)):
        first = np.flatnonzero(tokens[a:b] == between[0])
        if len(first):
            second = np.flatnonzero(tokens[a + first[0] + 1 : b] == between[1])
            if len(second):
                places[:, number] = a + first[0], a + first[0] + 1 + second[0]
    return places[0], places[1]


def _marked_by_place(
    store: Store, texts: Texts, between: tuple[str, str]
) -> tuple[Numbers, Numbers]:
    frame = store.rows.iloc[texts.rows]
    begins, ends = frame["char_start"].to_numpy(), frame["char_end"].to_numpy()
    names = frame["text"].to_numpy()[texts.starts[:-1]]
    places = np.full((2, len(texts)), -1)
    for number, (a, b) in enumerate(zip(texts.starts, texts.starts[1:], strict=False)):
        content = store.texts[names[number]]
        first = content.find(between[0])
        second = content.find(between[1], first + len(between[0])) if first >= 0 else -1
        if second < 0:
            continue
        for side, (place, mark) in enumerate(zip((first, second), between, strict=True)):
            over = np.flatnonzero((begins[a:b] < place + len(mark)) & (ends[a:b] > place))
            places[side, number] = a + over[-1] if len(over) else -1
    places[:, (places < 0).any(0)] = -1
    return places[0], places[1]


def _nothing(between: tuple[str, str] | None) -> str:
    if between is None:
        return (
            "every text has a single row, so there is no change to look at; extract rows='tokens'"
        )
    return (
        f"no text has rows at {between[0]!r} and, after it, {between[1]!r}; if they are special "
        "tokens, extract with special_tokens=True"
    )


def _answers(store: Store, texts: Texts, picked: Numbers) -> NDArray[Any] | None:
    frame = store.rows
    if ANSWER not in frame or texts.label == ANSWER:
        return None
    answers = frame[ANSWER].iloc[texts.first[picked]]
    return None if answers.isna().any() else codes_of(answers)
