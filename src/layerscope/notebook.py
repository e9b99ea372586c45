"""How things look in a notebook: small HTML in the notebook's own ink, right in light and in dark.

Nothing has a background, text is the notebook's, and the two colours that carry a meaning keep
their contrast on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from layerscope.theme import COLORS

RULE = "rgba(127, 127, 127, 0.35)"
_MUTED = "opacity: 0.72"
_CELL = f"padding: 0.25em 0.9em 0.25em 0; border: 0; border-bottom: 1px solid {RULE}"
MOST_ROWS = 12
MOST_NOTES = 4
"""Caveats of a finding that are read at once; the others are folded away."""


def behind_rule(content: str, meaning: str, style: str = "") -> str:
    """HTML behind a rule of the colour that stands for `meaning`, as in a report."""
    return (
        f'<div style="border-left: 3px solid {COLORS[meaning]}; padding-left: 1em; '
        f'margin: 0.7em 0; max-width: 70ch; {style}">{content}</div>'
    )


def cared(notes: Iterable[str]) -> str:
    """Caveats, each behind an orange rule."""
    return "".join(behind_rule(escape(note), "control") for note in notes)


def answered(question: str, answer: str, notes: Sequence[str]) -> str:
    """A section of a report: the question, its answer behind a blue rule, caveats behind an orange."""
    return (
        f'<p style="font-size: 1.15em; font-weight: 600; margin: 0.6em 0 0">{escape(question)}</p>'
        + behind_rule(f"<strong>{escape(answer)}</strong>", "value", "line-height: 1.5")
        + behind_rule(
            f'<span style="font-size: 0.85em; {_MUTED}">Read with care</span>' + _folded(notes),
            "control",
        )
        * bool(notes)
        # The title of a figure begins at its very edge.
        + '<div style="height: 0.6em"></div>'
    )


def shown_notes(notes: Sequence[str]) -> int:
    """How many are read at once: all where folding would hide a single one."""
    return len(notes) if len(notes) <= MOST_NOTES + 1 else MOST_NOTES


def _folded(notes: Sequence[str]) -> str:
    def listed(some: Sequence[str]) -> str:
        items = "".join(f"<li>{escape(note)}</li>" for note in some)
        return f'<ul style="margin: 0.2em 0 0; padding-left: 1.2em">{items}</ul>'

    shown = shown_notes(notes)
    more = notes[shown:]
    return listed(notes[:shown]) + (
        f'<details><summary style="cursor: pointer; {_MUTED}">{len(more)} more</summary>'
        f"{listed(more)}</details>"
    ) * bool(more)


def card(
    kind: str,
    title: str,
    facts: Iterable[str],
    table: str = "",
    *,
    after: str = "",
) -> str:
    """What a thing is: its kind and name, a line of facts, a table, and what to do next as code."""
    told = " · ".join(escape(fact) for fact in facts if fact)
    return (
        f'<div><span style="{_MUTED}">{escape(kind)}</span> <strong>{escape(title)}</strong></div>'
        + f"<div>{told}</div>" * bool(told)
        + table
        + f'<div style="{_MUTED}">next: <code>{escape(after)}</code></div>' * bool(after)
    )


def listing(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, most: int = MOST_ROWS
) -> str:
    """A table of the first `most` rows, numbers at the right; says how many are left out."""
    every = [tuple(row) for row in rows]
    shown = every[:most] if len(every) > most + 1 else every
    if not shown:
        return ""
    sides = ["right" if _is_number(value) else "left" for value in shown[0]]
    head = "".join(
        f'<th style="{_CELL}; text-align: {side}; {_MUTED}; font-weight: 600">{escape(name)}</th>'
        for name, side in zip(columns, sides, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="{_CELL}; text-align: {side}">{escape(_shown(value))}</td>'
            for value, side in zip(row, sides, strict=True)
        )
        + "</tr>"
        for row in shown
    )
    left = len(every) - len(shown)
    return (
        '<table style="border-collapse: collapse; margin: 0.5em 0; background: none">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        + f'<div style="{_MUTED}">and {left:,} more</div>'
        * bool(left)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"
    return f"{value:,}" if _is_number(value) else str(value)
