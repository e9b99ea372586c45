"""What a map of patches is made of: sites of every block, at every place, in every head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from layerscope.analyses.material.token_axis import TOGETHER, Place
from layerscope.hooks import edits
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.sites import layer_of, resolve

HEADS = {"q": 1, "k": 1, "v": 1, "z": 2}
"""Kinds of site that have heads -> the axis of the heads."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One patch: a site, maybe one head of it, at one place."""

    site: str
    place: Place
    head: int | None = None

    @property
    def kind(self) -> str:
        """The site without its block: ``resid_post``."""
        return self.site.rpartition(".")[2]

    @property
    def layer(self) -> int | None:
        """Its block; -1 for what enters the first one."""
        return -1 if self.site == "embed" else layer_of(self.site)

    def change(
        self, source: Mapping[str, Tensor], prompts: Tensor
    ) -> dict[int | str, edits.Change]:
        """The what-if: here is what the other run has here."""
        heads = None if self.head is None else [self.head]
        return {self.site: edits.swap(source, at=self.place.chosen(prompts), heads=heads)}

    def columns(self) -> dict[str, Any]:
        """How the table names it."""
        return {
            "site": self.site,
            "kind": self.kind,
            "layer": self.layer,
            "head": self.head,
            "position": self.place.number,
            "token": self.place.label,
        }


USUAL = ("resid_pre", "attn_out", "mlp_out")
"""Kinds of site that are patched unless others are asked for."""


def sites_of(model: nn.Module, sites: str | Sequence[str] | None) -> tuple[str, ...]:
    """The sites that are meant: ``"mlp_out"`` is that of every block; None: the usual ones it has.

    Raises:
        LookupError: the model has no such site.
        ValueError: a site that is not one of a block's, and so has no place on the map.
    """
    kinds = kinds_of(model)
    if sites is None:
        sites = [kind for kind in USUAL if kind in kinds]
    asked = [sites] if isinstance(sites, str) else list(sites)
    found = resolve(model, [f"blocks.*.{one}" if one in kinds else one for one in asked])
    for site in found:
        if site != "embed" and not site.startswith("blocks."):
            raise ValueError(
                f"{site!r} is in no block, so the map has no layer for it; there are embed and, in "
                f"every block, {', '.join(sorted(kinds))}"
            )
    return found


def kinds_of(model: nn.Module) -> set[str]:
    """The kinds of site that the model's blocks have."""
    known = anatomy(model).sites
    return {site.rpartition(".")[2] for site in known if site.startswith("blocks.")}


def cells_of(
    sites: Sequence[str], places: Sequence[Place], shapes: Mapping[str, Sequence[int]], by_head: Any
) -> list[Cell]:
    """Every patch of the map. Sites with heads are patched head by head, at `by_head` places.

    Args:
        shapes: Shape of each site's tensor, for the number of heads.
    """
    found = []
    for site in sites:
        axis = HEADS.get(site.rpartition(".")[2])
        if axis is None:
            found += [Cell(site, place) for place in places]
        else:
            heads = range(shapes[site][axis])
            found += [Cell(site, place, head) for place in by_head for head in heads]
    return found


def head_places(places: Sequence[Place], positions: Any) -> list[Place]:
    """Heads are patched at all positions at once, unless places were named."""
    return [Place(TOGETHER, None, None)] if positions is None else list(places)
