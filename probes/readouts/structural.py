"""A trained structural probe: distances, depths and the tree of a sentence from its activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.readouts.readout import Readout


@dataclass(frozen=True, kw_only=True)
class StructuralReadout(Readout):
    """Two linear maps of activations ``[..., words, width]`` of one sentence."""

    kind: ClassVar[str] = "structural"

    distance: Tensor
    """``[rank, width]``: ``|B(x_i - x_j)|^2`` are edges between words `i` and `j`."""
    depth: Tensor
    """``[rank, width]``: ``|B x_i|^2`` are edges from word `i` up to the root."""

    @property
    def width(self) -> int:
        return self.distance.shape[1]

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., words, rank]``: where words lie in the space whose distances are the tree's."""
        self.check(x)
        moved: Tensor = x.float() @ self.distance.T.to(x.device)
        return moved

    def distances(self, x: Tensor) -> Tensor:
        """``[..., words, words]`` predicted edges between words, not rounded."""
        from layerscope.probes.trees.quadratic import projected

        y = self(x)
        y = y - y.mean(-2, keepdim=True)
        return projected(y.reshape(-1, *y.shape[-2:]), "distance").reshape(
            *y.shape[:-1], y.shape[-2]
        )

    def depths(self, x: Tensor) -> Tensor:
        """``[..., words]`` predicted edges up to the root, not rounded."""
        self.check(x)
        return (x.float() @ self.depth.T.to(x.device)).square().sum(-1)

    def tree(self, x: Tensor, scored: NDArray[np.bool_] | None = None) -> list[int]:
        """The tree of one sentence ``[words, width]``: heads from 1, 0 for the root, as in CoNLL-U.

        The minimum spanning tree of the distances, hung from the word of least depth.

        Args:
            scored: ``[words]`` which words are in the tree; the others get -1. None: all of them.

        Raises:
            ValueError: not one sentence, or no word in the tree.
        """
        from layerscope.probes.trees.spanning import hung, spanning_trees

        if x.ndim != 2:
            raise ValueError(f"one sentence is [words, width], got {list(x.shape)}")
        mask = np.ones(len(x), dtype=bool) if scored is None else np.asarray(scored, dtype=bool)
        if not mask.any():
            raise ValueError("no word is in the tree; mark at least one as scored")
        edges = spanning_trees([self.distances(x).cpu().numpy()], [mask])[0]
        depths = self.depths(x).cpu().numpy()
        words = np.flatnonzero(mask)
        heads = hung(edges, int(words[np.argmin(depths[words])]), len(x)) + 1
        return [int(head) if inside else -1 for head, inside in zip(heads, mask, strict=True)]

    def predict(self, x: Tensor) -> list[int]:
        """The heads of one sentence, as `tree`."""
        return self.tree(x)
