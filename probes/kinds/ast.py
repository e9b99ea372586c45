"""AST probe (Hernandez Lopez et al. 2022): is a whole labelled tree in one subspace of a layer?

An orthogonal projection in which the squared step from a word to the next ranks the heights of
their lowest common ancestors, and tells its label; where a word lies tells the nodes on it alone.
From these the tree is built again, and compared with the true one constituent by constituent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerscope.probes.kinds.kind import Asked, SourceKind

if TYPE_CHECKING:
    from layerscope.probes.reading.sources import Source
    from layerscope.probes.readouts.ast import AstReadout
    from layerscope.probes.trees.ast_finding import AstFinding
    from layerscope.store import Store


@dataclass(frozen=True)
class AST(SourceKind):
    """Over the syntax trees of Python sources, or over the dependency trees of CoNLL-U.

    Raises:
        ValueError: an option below 1 (`epochs` may be 0: least squares only).
    """

    name = "ast"
    rows = "words"
    needs_label = False

    rank: int = 128
    """Dimensions of the subspace; at most half the width."""
    epochs: int = 10
    """Of descent; the best one on sentences held out is kept."""

    def __post_init__(self) -> None:
        for option, least in (("rank", 1), ("epochs", 0)):
            if getattr(self, option) < least:
                raise ValueError(f"{option} must be at least {least}, got {getattr(self, option)}")

    def measure(self, source: Source, asked: Asked) -> AstFinding:
        from layerscope.probes.trees.ast_measure import measure_ast

        return measure_ast(source, self, asked)

    def fit(
        self,
        store: Store,
        site: str | int,
        *,
        max_rows: int = 50_000,
        seed: int = 0,
        device: str | None = None,
    ) -> AstReadout:
        """The readout of one site, trained on the trees of the store.

        Its scores on the texts it was trained on say nothing: `probe` measures what it is worth.

        Raises:
            LookupError: no such site, or no trees.
            ValueError: no text has a tree, fewer than two groups, or NaN activations.
        """
        from layerscope.probes.trees.ast_measure import fit_ast

        return fit_ast(store, site, self, max_words=max_rows, seed=seed, device=device)
