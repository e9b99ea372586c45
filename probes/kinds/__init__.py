"""The kinds of probe, one per file; `probe(..., kind=)` takes a name, or an instance with options."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from layerscope.lazy import lazy

if TYPE_CHECKING:
    from layerscope.probes.kinds.ast import AST as AST
    from layerscope.probes.kinds.ccs import CCS as CCS
    from layerscope.probes.kinds.clue import CLUE as CLUE
    from layerscope.probes.kinds.concepts import Concepts as Concepts
    from layerscope.probes.kinds.kind import Kind as Kind
    from layerscope.probes.kinds.kind import LabelKind
    from layerscope.probes.kinds.lda import LDA as LDA
    from layerscope.probes.kinds.linear import Linear as Linear
    from layerscope.probes.kinds.low_rank import LowRank as LowRank
    from layerscope.probes.kinds.mass_mean import MassMean as MassMean
    from layerscope.probes.kinds.mdl import MDL as MDL
    from layerscope.probes.kinds.mlp import MLP as MLP
    from layerscope.probes.kinds.pooling import Pooling as Pooling
    from layerscope.probes.kinds.prototypes import Prototypes as Prototypes
    from layerscope.probes.kinds.ridge import Ridge as Ridge
    from layerscope.probes.kinds.scalar_mix import ScalarMix as ScalarMix
    from layerscope.probes.kinds.structural import Structural as Structural

_HOME = {
    "pooling": ("pooling", "Pooling"),
    "scalar_mix": ("scalar_mix", "ScalarMix"),
    "clue": ("clue", "CLUE"),
    "linear": ("linear", "Linear"),
    "ccs": ("ccs", "CCS"),
    "mdl": ("mdl", "MDL"),
    "structural": ("structural", "Structural"),
    "ast": ("ast", "AST"),
    "ridge": ("ridge", "Ridge"),
    "mass_mean": ("mass_mean", "MassMean"),
    "lda": ("lda", "LDA"),
    "low_rank": ("low_rank", "LowRank"),
    "mlp": ("mlp", "MLP"),
    "prototypes": ("prototypes", "Prototypes"),
    "concepts": ("concepts", "Concepts"),
}
"""Name -> file and class."""

NAMES = ("linear", *sorted(_HOME.keys() - {"linear"}))

__all__ = [
    "AST",
    "CCS",
    "CLUE",
    "LDA",
    "MDL",
    "MLP",
    "NAMES",
    "Concepts",
    "Kind",
    "Linear",
    "LowRank",
    "MassMean",
    "Pooling",
    "Prototypes",
    "Ridge",
    "ScalarMix",
    "Structural",
    "as_kind",
]


def as_kind(kind: str | Kind) -> Kind:
    """The kind of this name with its default options, or the kind that was given.

    Raises:
        TypeError: neither a name nor a kind.
        ValueError: no kind of this name; names the nearest.
    """
    from layerscope.corpus.names import nearest
    from layerscope.probes.kinds.kind import Kind

    if isinstance(kind, Kind):
        return kind
    if isinstance(kind, type) and issubclass(kind, Kind):
        raise TypeError(f"kind={kind.__name__} is a class: write kinds.{kind.__name__}()")
    if not isinstance(kind, str):
        raise TypeError(f"kind is a name or a kind of probe, not {type(kind).__name__}")
    if kind not in _HOME:
        raise ValueError(f"no kind of probe {kind!r}; {nearest(kind, NAMES)}")
    home, name = _HOME[kind]
    made: Kind = getattr(import_module(f"layerscope.probes.kinds.{home}"), name)()
    return made


def label_kind(kind: str | Kind, task: str) -> LabelKind:
    """The kind, if it predicts a label of this task from the rows of one site.

    Raises:
        ValueError: it does not.
    """
    from layerscope.probes.kinds.kind import LabelKind

    chosen = as_kind(kind)
    if not isinstance(chosen, LabelKind):
        raise ValueError(f"kind={chosen.name!r} needs more than rows and labels: use probe()")
    if task not in chosen.tasks:
        raise ValueError(
            f"this label is a {task}, which kind={chosen.name!r} cannot predict; it predicts "
            f"a {' or a '.join(chosen.tasks)}"
        )
    return chosen


__getattr__, __dir__ = lazy(
    __name__, {"Kind": ".kind"} | {found: f".{home}" for home, found in _HOME.values()}
)
