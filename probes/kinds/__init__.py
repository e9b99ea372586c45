"""The kinds of probe, one per file; `probe(..., kind=)` takes a name, or an instance with options."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerscope.probes.kinds.kind import Kind as Kind
    from layerscope.probes.kinds.kind import LabelKind
    from layerscope.probes.kinds.linear import Linear as Linear

_HOME = {
    "linear": ("linear", "Linear"),
}
"""Name -> file and class."""

NAMES = tuple(_HOME)
_CLASSES = {found: home for home, found in _HOME.values()}

__all__ = ["NAMES", "Kind", "Linear", "as_kind"]


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


def __getattr__(name: str) -> Any:
    if name == "Kind":
        return import_module("layerscope.probes.kinds.kind").Kind
    if name not in _CLASSES:
        raise AttributeError(f"module 'layerscope.probes.kinds' has no attribute {name!r}")
    return getattr(import_module(f"layerscope.probes.kinds.{_CLASSES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
