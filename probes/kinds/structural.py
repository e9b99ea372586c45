"""Structural probe (Hewitt and Manning 2019): is the tree of a sentence in the geometry of its words?

A linear map under which the squared distance of two words is the number of edges between them, and
another under which the squared length of a word is its depth. Both begin at the least squares
solution for the metric itself, which is convex, and go on by descent on the paper's loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerscope.probes.kinds.kind import Asked, SourceKind

if TYPE_CHECKING:
    from layerscope.probes.reading.sources import Source
    from layerscope.probes.readouts.structural import StructuralReadout
    from layerscope.probes.trees.structural_finding import StructuralFinding
    from layerscope.store import Store


@dataclass(frozen=True)
class Structural(SourceKind):
    """Distance and depth probe over the dependency trees in the label ``head``.

    Raises:
        ValueError: an option below 1 (`epochs` may be 0: least squares only).
    """

    name = "structural"
    rows = "words"
    needs_label = False

    rank: int = 64
    """Dimensions that words are projected to."""
    epochs: int = 5
    """At most so many of descent, after least squares."""
    components: int = 64
    """Principal components that least squares sees; the descent sees the whole width."""

    def __post_init__(self) -> None:
        for option, least in (("rank", 1), ("epochs", 0), ("components", 1)):
            if getattr(self, option) < least:
                raise ValueError(f"{option} must be at least {least}, got {getattr(self, option)}")

    def measure(self, source: Source, asked: Asked) -> StructuralFinding:
        from layerscope.probes.trees.structural_measure import measure_structure

        return measure_structure(source, self, asked)

    def fit(
        self,
        store: Store,
        site: str | int,
        *,
        max_rows: int = 50_000,
        seed: int = 0,
        device: str | None = None,
    ) -> StructuralReadout:
        """The readout of one site, trained on the trees of the store.

        Its scores on the sentences it was trained on say nothing: `probe` measures what it is worth.

        Raises:
            LookupError: no such site, or no label ``head``.
            ValueError: no sentence has a tree, fewer than two groups, or NaN activations.
        """
        from layerscope.probes.trees.structural_measure import fit_structure

        return fit_structure(store, site, self, max_words=max_rows, seed=seed, device=device)
