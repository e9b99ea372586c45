"""Layer arguments against the sites of a store, as `layerscope.hooks.sites` does with a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from layerscope.corpus.names import nearest
from layerscope.store import Store

_RESIDUAL = re.compile(r"blocks\.(\d+)\.resid_post")


def stored_sites(store: Store, layers: int | str | Sequence[int | str]) -> tuple[str, ...]:
    """The sites of the store that `layers` stands for, in the order of the store.

    Args:
        layers: An int, a site, a pattern, a list of these, or ``"all"``: every ``resid_post``
            and ``embed``; in a store without ``resid_post``, every site.

    Raises:
        LookupError: a site that the store does not hold.
    """
    asked = [layers] if isinstance(layers, (int, str)) else list(layers)
    if not asked:
        raise ValueError("no layers asked for: give an int, a site, a pattern, a list, or 'all'")
    found = {site for one in asked for site in _one(store, one)}
    return tuple(site for site in store.sites if site in found)


def _one(store: Store, asked: int | str) -> list[str]:
    residual = {int(m[1]): m[0] for m in map(_RESIDUAL.fullmatch, store.sites) if m}
    if asked == "all":
        first = ["embed"] if "embed" in store.sites else []
        return [*first, *residual.values()] if residual else list(store.sites)
    if isinstance(asked, int):
        number = asked if asked >= 0 else sorted(residual)[asked] if -asked <= len(residual) else -1
        if number not in residual:
            raise LookupError(f"layer {asked} is not in this store; {_there(residual)}")
        return [residual[number]]
    found = [site for site in store.sites if _matches(site, asked)]
    if not found:
        raise LookupError(
            f"site {asked!r} is not in this store; {nearest(asked, store.sites)}. "
            "To store it too, run extract with it among the layers"
        )
    return found


def _there(residual: dict[int, str]) -> str:
    return f"it has resid_post of layers {', '.join(map(str, sorted(residual))) or 'none'}"


def _matches(site: str, pattern: str) -> bool:
    """Equal dot by dot, where `*` stays between two dots."""
    ours, theirs = site.split("."), pattern.split(".")
    return len(ours) == len(theirs) and all(map(fnmatchcase, ours, theirs))
