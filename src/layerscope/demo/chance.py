"""Random choices that come out the same on every machine and in every Python.

Of Python's generator only `random()` is promised never to change, so every choice is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """A seeded stream of choices; a string seed gives each purpose a stream of its own."""

    def __init__(self, seed: str) -> None:
        self._random = Random(seed).random

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, all equally likely."""
        return options[int(self._random() * len(options))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """One of the keys, as likely as its share of the weights."""
        left = self._random() * sum(weights.values())
        for option, weight in weights.items():
            left -= weight
            if left < 0:
                return option
        return option

    def happens(self, probability: float) -> bool:
        """True with that probability."""
        return self._random() < probability

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order, as a new list."""
        order = sorted((self._random(), index) for index in range(len(items)))
        return [items[index] for _, index in order]
