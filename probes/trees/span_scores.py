"""How many constituents of a tree another tree has: precision, recall and F1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Span = tuple[str, int, int]
MEASURES = ("f1", "precision", "recall", "inner")


def hits(found: Sequence[Span], gold: Sequence[Span]) -> int:
    """Constituents that are in both, each as often as it is in the tree that has it less often.

    >>> hits([("a", 0, 1), ("a", 0, 1)], [("a", 0, 1), ("b", 0, 2)])
    1
    """
    return (Counter(found) & Counter(gold)).total()


def span_scores(
    found: Sequence[Sequence[Span]], gold: Sequence[Sequence[Span]]
) -> dict[str, NDArray[np.float64]]:
    """Under each of `MEASURES` the scores of texts, ``[texts]``.

    ``inner`` is the F1 of constituents of two words or more; a text that has none is left out (NaN).
    """
    columns: dict[str, list[float]] = {measure: [] for measure in MEASURES}
    for ours, theirs in zip(found, gold, strict=True):
        right = hits(ours, theirs)
        columns["f1"].append(2 * right / max(1, len(ours) + len(theirs)))
        columns["precision"].append(right / len(ours) if ours else 0.0)
        columns["recall"].append(right / max(1, len(theirs)))
        wide = [[span for span in side if span[2] > span[1]] for side in (ours, theirs)]
        total = len(wide[0]) + len(wide[1])
        columns["inner"].append(2 * hits(*wide) / total if wide[1] else float("nan"))
    return {measure: np.array(values) for measure, values in columns.items()}
