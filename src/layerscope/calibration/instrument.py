"""An instrument and its readings: what was planted, what should be read, what was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

FAMILIES = (
    "The model and the data",
    "What the layers know",
    "What they look like",
    "What if",
    "Sparse dictionaries",
    "While a network learns",
)
"""Instruments are shown in these groups, in this order."""


@dataclass(frozen=True)
class Reading:
    """One quantity: what must come out, and what did.

    Words are as expected where they are equal, numbers where they are at most `allowed` apart.
    """

    quantity: str
    """A few words, such as "accuracy, nothing planted"."""
    expected: float | str
    """Of the plant itself: a closed form or the construction, never the instrument's own word."""
    measured: float | str
    """What the public call gave."""
    allowed: float = 0.0
    """Rounding, or three standard errors where the plant is a sample."""
    unit: str = ""


@dataclass(frozen=True)
class Instrument:
    """One public call, set before something whose answer is known.

    Its name is the call's: ``layer_skip``, ``probe.linear``, ``eraser.leace``, ``sae.train``.
    """

    name: str
    family: str
    """One of `FAMILIES`."""
    planted: str
    """One plain sentence: what was built in."""
    source: str
    """Where the expected values come from: a closed form, the construction, a paper."""
    read: Callable[[int], Iterable[Reading]]
    """Seed -> readings. A generator shows each reading as soon as it is there."""
