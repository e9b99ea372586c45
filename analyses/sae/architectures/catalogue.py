"""Architectures by name, with the options that a user gives."""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from layerscope.analyses.sae.architectures.afa import AFA
from layerscope.analyses.sae.architectures.architecture import Architecture
from layerscope.analyses.sae.architectures.batchtopk import BatchTopK
from layerscope.analyses.sae.architectures.crosscoder import Crosscoder
from layerscope.analyses.sae.architectures.gated import Gated
from layerscope.analyses.sae.architectures.jumprelu import JumpReLU
from layerscope.analyses.sae.architectures.matryoshka import Matryoshka
from layerscope.analyses.sae.architectures.relu import ReLU, ReLUApril
from layerscope.analyses.sae.architectures.topk import TopK
from layerscope.analyses.sae.architectures.transcoder import Transcoder

ARCHITECTURES: dict[str, type[Architecture]] = {
    kind.name: kind
    for kind in (
        TopK,
        BatchTopK,
        Matryoshka,
        JumpReLU,
        Gated,
        ReLU,
        ReLUApril,
        AFA,
        Transcoder,
        Crosscoder,
    )
}


def by_name(name: str, *, group: int | None = None, **options: Any) -> Architecture:
    """The architecture of this name.

    Examples:
        >>> by_name("topk", k=(16, 32, 64)).k
        (16, 32, 64)
        >>> by_name("jumprelu", l0=20, group=2).l0
        (20, 20)

    Args:
        name: One of `ARCHITECTURES`.
        group: How many SAEs train together; None: as many as the longest option has values.
        options: Its fields. Those that it names in `swept` take one value for all SAEs of a group or a sequence
            with one for each. A transcoder takes ``inner="topk"`` and the options of that.

    Raises:
        LookupError: no such architecture or option; says which there are.
        ValueError: an option out of range, or missing, or of another length than the group.
    """
    kind = ARCHITECTURES.get(name)
    if kind is None:
        near = get_close_matches(name, ARCHITECTURES, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise LookupError(f"no architecture {name!r}; there are {', '.join(ARCHITECTURES)}{meant}")
    if kind is Transcoder:
        return _transcoder(group, **options)
    known = [field.name for field in fields(kind)]
    for option in options:
        if option not in known:
            raise LookupError(f"{name} has no option {option!r}; it has {', '.join(known)}")
    if kind is Crosscoder and "parts" not in options:
        raise ValueError("a crosscoder needs parts=, the widths of its sites, such as (64, 64)")
    return kind(**_spread(kind, options, group))


def _transcoder(
    group: int | None, *, inner: str = "topk", skip: bool = False, **options: Any
) -> Transcoder:
    if options.pop("subtract_b_dec", False):
        raise ValueError("a transcoder never subtracts b_dec: it belongs to another site")
    if inner in ("transcoder", "crosscoder"):
        raise ValueError(f"a transcoder cannot be made of a {inner}; choose inner='topk' or such")
    return Transcoder(inner=by_name(inner, group=group, **options), skip=skip)


def _spread(kind: type[Architecture], options: dict[str, Any], group: int | None) -> dict[str, Any]:
    """Options as the fields want them: tuples of the group's length where they are swept."""
    defaults = {field.name: field.default for field in fields(kind) if field.name in kind.swept}
    swept = {name: _tuple(options.get(name, default)) for name, default in defaults.items()}
    lengths = {name: len(values) for name, values in swept.items() if len(values) != 1}
    wanted = group or max(lengths.values(), default=1)
    for name, length in lengths.items():
        if length != wanted:
            raise ValueError(
                f"{name}={swept[name]!r} has {length} values for a group of {wanted} SAEs: give "
                "one for all, or one for each"
            )
    return options | {
        name: values * wanted if len(values) == 1 else values for name, values in swept.items()
    }


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list, range)) else (value,)
