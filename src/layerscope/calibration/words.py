"""A reading in words: numbers as people write them, marks for the verdicts, the answer."""

from __future__ import annotations

from math import isfinite, isnan
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

AS_EXPECTED, OFF, FAILED = "as expected", "off", "failed"
"""The three verdicts."""

MARKS = {AS_EXPECTED: "✓", OFF: "✗", FAILED: "!"}
"""A sign for each verdict, so that none hangs on colour alone."""


def answer(table: pd.DataFrame) -> str:
    """How many instruments read what was planted; then those that do not, by name."""
    names = list(dict.fromkeys(table["instrument"]))
    wrong = {verdict: _names(table, verdict) for verdict in (OFF, FAILED)}
    bad = set(wrong[OFF]) | set(wrong[FAILED])
    readings = (table["verdict"] != FAILED).sum()
    seconds = f"in {table['seconds'].sum():.0f} seconds"
    if not bad:
        who = "The instrument reads" if len(names) == 1 else f"All {len(names)} instruments read"
        return f"{who} what was planted: {readings} readings, none off, {seconds}."
    parts = [
        f"{len(names) - len(bad)} of {len(names)} instruments read what was planted",
        *(f"off: {', '.join(found)}" for found in [wrong[OFF]] if found),
        *(f"failed with an error: {', '.join(found)}" for found in [wrong[FAILED]] if found),
    ]
    return "; ".join(parts) + f"; {readings} readings {seconds}."


def _names(table: pd.DataFrame, verdict: str) -> list[str]:
    return list(dict.fromkeys(table[table["verdict"] == verdict]["instrument"]))


def expected(row: Any) -> str:
    """What must come out, with what it may be off by: ``0.841 ± 0.010``."""
    if row.expected_text or isnan(row.expected):
        return row.expected_text or ("nothing" if row.verdict != FAILED else "")
    allowed = f" ± {number(row.allowed)}" if row.allowed > 0 else ""
    return f"{number(row.expected)}{allowed}{unit(row)}"


def measured(row: Any) -> str:
    """What the instrument said."""
    if row.measured_text:
        return str(row.measured_text)
    return f"{number(row.measured)}{unit(row)}"


def unit(row: Any) -> str:
    """The unit with a space before it, or nothing."""
    return f" {row.unit}" if row.unit else ""


def number(value: float) -> str:
    """At most four digits after the point; what would be lost there in powers of ten.

    >>> number(3.0), number(0.8413447), number(1e-5), number(-4e-17), number(120.5)
    ('3', '0.8413', '1e-05', '-4e-17', '120.5')
    """
    if not isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    if abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:.4f}".rstrip("0").rstrip(".")


def gist(table: pd.DataFrame) -> str:
    """How many instruments read what was planted, in one sentence."""
    names = list(dict.fromkeys(table["instrument"]))
    bad = list(dict.fromkeys(table[table["verdict"] != AS_EXPECTED]["instrument"]))
    if not bad:
        who = "The instrument reads" if len(names) == 1 else f"All {len(names)} instruments read"
        return f"{who} what was planted: none of {len(table)} readings is off."
    more = f" and {len(bad) - 2} more" if len(bad) > 2 else ""
    return (
        f"{len(names) - len(bad)} of {len(names)} instruments read what was planted; off or failed: "
        f"{', '.join(bad[:2])}{more}."
    )
