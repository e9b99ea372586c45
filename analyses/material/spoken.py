"""Numbers in sentences."""

from __future__ import annotations

from math import isnan


def spoken(low: float, high: float, form: str, *, before: str = " (") -> str:
    """An interval as it stands after its value; nothing where there is none.

    >>> spoken(0.1, 0.2, ".2f"), spoken(0.1, 0.2, ".2f", before=", "), spoken(float("nan"), 1, "")
    (' (0.10 to 0.20)', ', 0.10 to 0.20', '')
    """
    if isnan(low) or isnan(high):
        return ""
    return f"{before}{low:{form}} to {high:{form}}{')' if '(' in before else ''}"
