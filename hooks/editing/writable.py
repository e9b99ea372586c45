"""How each site of a model can be written: which tensors are to be replaced, read and moved."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from torch import nn

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.editing.change import Change
from layerscope.hooks.locating.structure import declared_path
from layerscope.hooks.places import AttentionTap, Difference, Place, Tap
from layerscope.hooks.sites import layer_of, place_of

_STATE = re.compile(r"resid_(pre|post|(mid|cross)(_\d+)?)")


@dataclass
class Plan:
    """What a writer has to do, by site."""

    taps: dict[str, Tap] = field(default_factory=dict)
    """Tensors that are replaced."""
    reads: dict[str, Tap] = field(default_factory=dict)
    """Tensors that are remembered within a pass."""
    attention: dict[str, AttentionTap] = field(default_factory=dict)
    differences: dict[str, dict[str, tuple[str, ...]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """State -> the differences that move it, each with the states it is measured from."""
    carried: dict[str, dict[str, float]] = field(default_factory=dict)
    """State -> the later states that move with it, and how much."""
    before: dict[str, str] = field(default_factory=dict)
    """Site -> what takes its place when it is skipped."""
    late: set[str] = field(default_factory=set)
    """Sites that may have the last positions only."""
    in_blocks: dict[str, int] = field(default_factory=dict)
    """Site of a block -> how many axes its tensor has."""
    places: dict[str, Place] = field(default_factory=dict)

    def sources(self) -> Iterator[Tap | AttentionTap]:
        """Everything that is attached to."""
        yield from self.taps.values()
        yield from self.reads.values()
        yield from self.attention.values()

    def place(self, site: str) -> Tap | AttentionTap:
        """Where a site, or the state that it moves, is at the model."""
        place = self.places[site]
        return self.taps[place.after] if isinstance(place, Difference) else place


def plan(model: nn.Module, changes: Mapping[str, Sequence[Change]]) -> Plan:
    """How to make `changes`.

    Raises:
        LookupError: the model has no such site.
        ValueError: a change that cannot be made at its site.
    """
    found = Plan()
    for site, some in changes.items():
        place = found.places[site] = place_of(model, site)
        for change in some:
            _check_kind(site, place, change)
        if isinstance(place, AttentionTap):
            found.attention[site] = place
        elif isinstance(place, Difference):
            _plan_difference(model, found, site, place)
        else:
            _plan_state(model, found, site, place)
        named = layer_of(site) is not None
        if any(c.kind == "skip" for c in some) and not (named and site.endswith("_out")):
            _plan_skip(model, found, site, place)
    shapes = anatomy(model).shapes if any(layer_of(site) is not None for site in changes) else {}
    found.in_blocks = {
        site: len(shapes[site].split()) for site in found.taps if shapes.get(site) is not None
    }
    head = declared_path(model, "get_output_embeddings")
    found.late = {"logits"} if head is None else {"logits", head, f"{head}:in"}
    return found


def _plan_state(model: nn.Module, found: Plan, site: str, place: Tap) -> None:
    found.taps[site] = place
    if place.side == "out" or not _STATE.fullmatch(site.rpartition(".")[2]):
        return
    if site.endswith(".resid_pre") or site == "embed":
        return
    # Seen on its way into a norm: the stream itself goes past it, and has to be moved where it
    # is next seen.
    sites = list(anatomy(model).sites)
    here, factor = site, 1.0
    while True:
        there, link = _next_state(model, sites, here)
        if there is None or link is None:
            raise ValueError(
                f"{site!r} of this {type(model).__name__} cannot be written: how the stream goes on "
                f"from there is not a plain sum; write {site.rpartition('.')[0]}.resid_pre, "
                "attn_out or resid_post instead"
            )
        factor *= link
        found.carried.setdefault(site, {})[there] = factor
        tap = place_of(model, there)
        assert isinstance(tap, Tap)
        found.taps.setdefault(there, tap)
        if tap.side == "out":
            return
        here = there


def _next_state(
    model: nn.Module, sites: Sequence[str], here: str
) -> tuple[str | None, float | None]:
    """The next state of the stream in the same block, and how much of a change arrives there."""
    block = here.rpartition(".")[0]
    link: float | None = None
    for site in sites[sites.index(here) + 1 :]:
        name, _, part = site.rpartition(".")
        if name != block:
            break
        place = place_of(model, site)
        if part.endswith("_out"):
            link = place.carry if isinstance(place, Difference) else 1.0
        elif _STATE.fullmatch(part):
            return (site, link) if isinstance(place, Tap) else (None, None)
    return None, None


def _plan_difference(model: nn.Module, found: Plan, site: str, place: Difference) -> None:
    after = place_of(model, place.after)
    terms = {name: place_of(model, name) for name in place.before}
    if not isinstance(after, Tap) or not all(isinstance(x, Tap) for x in terms.values()):
        raise ValueError(
            f"{site!r} ({place}) cannot be written: its terms are no tensors themselves"
        )
    found.differences[place.after][site] = place.before
    _plan_state(model, found, place.after, after)
    found.reads.update({name: x for name, x in terms.items() if isinstance(x, Tap)})


def _plan_skip(model: nn.Module, found: Plan, site: str, place: Place) -> None:
    """What enters a block (or, for a module path, the module) is what leaves it."""
    if site.endswith(".resid_post"):
        entry = f"{site.rpartition('.')[0]}.resid_pre"
        tap = place_of(model, entry)
    else:
        assert isinstance(place, Tap)
        entry, tap = f"{site}:in", Tap(place.path, "in", None, place.call)
    assert isinstance(tap, Tap)
    found.before[site] = entry
    found.reads[entry] = tap


def _check_kind(site: str, place: Place, change: Change) -> None:
    part = site.rpartition(".")[2]
    if change.kind == "cut" and not (isinstance(place, AttentionTap) and place.part == "pattern"):
        block = site.rpartition(".")[0] if layer_of(site) is not None else "blocks.i"
        raise ValueError(f"cut goes to a pattern, such as '{block}.pattern'; asked at {site!r}")
    named = layer_of(site) is not None or site in ("embed", "norm", "logits", "encoder.norm")
    path = not named and isinstance(place, Tap) and place.side == "out"
    if change.kind == "skip" and not (part == "resid_post" or part.endswith("_out") or path):
        near = get_close_matches(part, ["resid_post", "attn_out", "mlp_out"], n=1, cutoff=0.1)
        raise ValueError(
            f"skip goes to resid_post (a whole block), attn_out or mlp_out; asked at {site!r}"
            + (f"; did you mean {near[0]}?" if near else "")
        )
