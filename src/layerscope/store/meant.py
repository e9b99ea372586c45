"""Which stored site is meant by a name or by the number of a layer."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches


def meant(site: str | int, stored: Collection[str], where: str) -> str:
    """The name of a stored site; an int is a layer, counted from the end if negative.

    >>> meant(-1, ["embed", "blocks.0.resid_post", "blocks.2.resid_post"], "acts")
    'blocks.2.resid_post'

    Args:
        site: What was asked for.
        stored: Names of the sites that are there, in their order.
        where: What the store is called in an error.

    Raises:
        LookupError: it is not there; names the nearest ones.
    """
    name = _of_layer(site, stored) if isinstance(site, int) else site
    if name not in stored:
        near = get_close_matches(name, stored) or list(stored)[:8]
        raise LookupError(
            f"site {site!r} is not in {where}; closest: {', '.join(near)}. "
            "To store it too, run extract with it among the layers"
        )
    return name


def _of_layer(layer: int, stored: Collection[str]) -> str:
    layers = [name for name in stored if re.fullmatch(r"blocks\.\d+\.resid_post", name)]
    return layers[layer] if -len(layers) <= layer < 0 else f"blocks.{layer}.resid_post"
