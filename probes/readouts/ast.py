"""A trained AST probe: the labelled tree of a text from the activations of its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from layerscope.corpus.tree_tuples import Tree, TreeTuple, decode
from layerscope.probes.readouts.readout import Readout


@dataclass(frozen=True, kw_only=True)
class AstReadout(Readout):
    """An orthogonal projection, and scores of labels in it; `classes` are those between words."""

    kind: ClassVar[str] = "ast"

    projection: Tensor
    """``[width, rank]``, orthonormal columns."""
    labels: Tensor
    """``[classes, rank]``: scores of the step from a word to the next."""
    unary: Tensor
    """``[unary classes, rank]``: scores of a word."""
    scale: Tensor
    """``[]``: height of one unit of squared length."""
    mean: Tensor
    """``[width]`` of the training words."""
    unary_classes: tuple[str, ...] = ()
    """Chains of nodes that hold one word; ∅ for none."""

    def __post_init__(self) -> None:
        # JSON has no tuples.
        object.__setattr__(self, "unary_classes", tuple(self.unary_classes))

    @property
    def width(self) -> int:
        return self.projection.shape[0]

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., words, rank]``: where words lie in the subspace."""
        self.check(x)
        moved: Tensor = (x.float() - self.mean.to(x.device)) @ self.projection.to(x.device)
        return moved

    def heights(self, x: Tensor) -> Tensor:
        """``[..., words - 1]`` of the lowest common ancestors of neighbours; their order counts."""
        return self.scale.to(x.device) * self(x).diff(dim=-2).square().sum(-1)

    def coded(self, x: Tensor) -> TreeTuple:
        """Heights and labels of one text ``[words, width]``.

        Raises:
            ValueError: it is not one text.
        """
        if x.ndim != 2:
            raise ValueError(f"one text is [words, width], got {list(x.shape)}")
        y = self(x)
        between = (y.diff(dim=0) @ self.labels.T.to(x.device)).argmax(-1).tolist()
        alone = (y @ self.unary.T.to(x.device)).argmax(-1).tolist()
        return TreeTuple(
            tuple(self.heights(x).tolist()),
            tuple(self.classes[number] for number in between),
            tuple(self.unary_classes[number] for number in alone),
        )

    def tree(self, x: Tensor) -> Tree:
        """The labelled tree of one text ``[words, width]``; its leaves are numbers of words."""
        return decode(self.coded(x))

    def predict(self, x: Tensor) -> list[str]:
        """The label between each word of one text and the next."""
        return list(self.coded(x).labels)
