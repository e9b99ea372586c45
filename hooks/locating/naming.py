"""Names for what was found in a block: which part is attention, which the MLP, and their sites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from layerscope.hooks.locating.layout import Layout, Move, Part, output_tap, tap_of
from layerscope.hooks.locating.observe import Event, Observation, Seen
from layerscope.hooks.places import AttentionTap, Difference, Place, Tap

Role = Literal["attn", "cross_attn", "mlp", "mixer"]
Roles = list[list[Role]]
"""One list for each move of a block, one role for each of its parts."""


def roles_of(
    layout: Layout, encoder: int | None, inner: list[Event], mixing: Mapping[tuple[str, int], bool]
) -> Roles:
    """Attention where softmax attention ran, another mixer where positions mix, else MLP."""

    def role(part: Part) -> Role:
        if part.attentions:
            crossed = encoder is not None and _receives(part.attentions, inner, encoder)
            return "cross_attn" if crossed else "attn"
        return "mixer" if mixing.get((part.source.path, part.source.call)) else "mlp"

    return [[role(part) for part in move.parts] for move in layout.moves or ()]


def _receives(calls: tuple[Event, ...], inner: list[Event], value: int) -> bool:
    about = (e for e in inner if any(e is c or e.within(c) for c in calls))
    return any(s.value == value for e in about for s in e.inputs)


def _slots(roles: Roles) -> Roles:
    """The names under which the parts' sites go; every block then has the two slots users know.

    Without attention the first mixer takes its slot. A mixer at the end of a block without an MLP
    takes that one (RWKV's channel mix looks one token back; some MLPs end in a convolution).
    """
    slots = [list(move) for move in roles]
    places = [(i, j) for i, move in enumerate(slots) for j, r in enumerate(move) if r == "mixer"]
    flat = [role for move in slots for role in move]
    if places and "attn" not in flat:
        i, j = places.pop(0)
        slots[i][j] = "attn"
    if places and "mlp" not in flat and len(slots) > 1 and places[-1][0] == len(slots) - 1:
        i, j = places[-1]
        slots[i][j] = "mlp"
    return slots


def fill(layout: Layout, record: Observation, roles: Roles, name: str) -> None:
    """Write the sites of one block in forward order, and what it is made of."""
    inner = record.during(layout.event)
    states = {move.after for move in layout.moves or ()}
    _put(layout, f"{name}.resid_pre", tap_of(layout.event, layout.entry), layout.entry)
    if layout.moves is None:
        _fill_unexplained(layout, inner, name)
    else:
        _fill_moves(layout, inner, states, _slots(roles), name)
    _put(layout, f"{name}.resid_post", tap_of(layout.event, layout.exit), layout.exit)
    layout.kind = " + ".join(" | ".join(kinds) for kinds in roles)
    layout.parallel = any(len(kinds) > 1 for kinds in roles)
    layout.norms = _norms(layout, inner, states)


def _fill_moves(
    layout: Layout, inner: list[Event], states: set[int], slots: Roles, name: str
) -> None:
    count: Counter[str] = Counter()
    here, moves = f"{name}.resid_pre", layout.moves or []
    for move, kinds in zip(moves, slots, strict=True):
        last = move is moves[-1]
        state = "resid_cross" if "cross_attn" in kinds else "resid_mid"
        there = f"{name}.resid_post" if last else f"{name}.{_numbered(state, count)}"
        written = []
        for part, role in zip(move.parts, kinds, strict=True):
            _fill_part(layout, inner, states, part, role, name)
            written.append(f"{name}.{_numbered(role, count)}_out")
        _fill_written(layout, move, written, here, there)
        if not last:
            _put(layout, there, output_tap(inner, move.after), layout.entry)
        here = there


def _numbered(label: str, count: Counter[str]) -> str:
    """mlp, then mlp_2: for blocks with several sublayers of a kind."""
    count[label] += 1
    return label if count[label] == 1 else f"{label}_{count[label]}"


def _put(layout: Layout, site: str, place: Place, like: Seen | tuple[int, ...]) -> None:
    layout.sites[site] = place
    layout.shapes[site] = like.shape if isinstance(like, Seen) else like


def _fill_part(
    layout: Layout, inner: list[Event], states: set[int], part: Part, role: Role, name: str
) -> None:
    """The sites inside a sublayer (heads or neurons), and the module that is the sublayer."""
    if role == "attn" and layout.attn is None:
        core = part.attentions[0] if part.attentions else part.source
        layout.attn = _sublayer(inner, core, states).path
        if part.attentions:
            _fill_heads(layout, core, name)
    if role == "mlp" and layout.mlp is None:
        layout.mlp = part.source.path
        _fill_neurons(layout, inner, part, name)


def _fill_unexplained(layout: Layout, inner: list[Event], name: str) -> None:
    """Attention can be read even where the sums around it are not understood."""
    attention = next((e for e in inner if e.attention), None)
    if attention is not None:
        layout.attn = attention.path
        _fill_heads(layout, attention, name)


def _sublayer(inner: list[Event], core: Event, states: set[int]) -> Event:
    """The outermost call around `core` that does not itself return a state of the stream."""
    around = [e for e in inner if core is e or core.within(e)]
    clean = [e for e in around if not any(s.value in states for s in e.outputs)]
    return min(clean, key=lambda e: e.start, default=core)


def _fill_heads(layout: Layout, attention: Event, name: str) -> None:
    for part, shape in _head_shapes(layout.entry.shape, attention.attention).items():
        tap = AttentionTap(attention.path, part, attention.call)
        _put(layout, f"{name}.{part}", tap, shape)


HeadPart = Literal["q", "k", "v", "pattern", "z"]


def _head_shapes(
    stream: tuple[int, ...], seen: Mapping[str, tuple[int, ...]]
) -> dict[HeadPart, tuple[int, ...]]:
    """Shapes [b h p e] from those that were seen: of q, k, v (sdpa) or of the pattern (softmax)."""
    batch, positions, width = stream if len(stream) == 3 else (stream[0], 0, stream[-1])
    query = seen.get("q", ())
    if len(query) == 4:
        heads, size = query[1], query[3]
    else:  # [b, h, p, p] or [b * h, p, p]
        pattern = seen.get("pattern", (batch, 1, 1, 1))
        heads = pattern[1] if len(pattern) == 4 else pattern[0] // batch
        size = width // max(heads, 1)
    like = (batch, heads, positions, size)
    key, value = seen.get("k", like), seen.get("v", like)
    pattern = (batch, heads, positions, key[-2])
    z = (batch, positions, heads, value[-1])
    return {"q": like, "k": key, "v": value, "pattern": pattern, "z": z}


def _fill_neurons(layout: Layout, inner: list[Event], part: Part, name: str) -> None:
    """Neurons are what enters the matrix whose product is the MLP's output."""
    target = {s.value for s in part.source.outputs} | {part.value}
    for event in inner:
        mine = event is part.source or event.within(part.source)
        matrix = any(p.ndim == 2 for p in event.module.parameters(recurse=False))
        made = any(s.value in target for s in event.outputs)
        if mine and event.is_leaf and matrix and made and event.inputs:
            tap = Tap(event.path, "in", None, event.call)
            _put(layout, f"{name}.mlp_act", tap, event.inputs[0])
            return


def _fill_written(
    layout: Layout, move: Move, written: Iterable[str], here: str, there: str
) -> None:
    """What was added to the stream: a tapped module where it is exactly that, else a difference."""
    for part, site in zip(move.parts, written, strict=True):
        if move.plain:
            _put(layout, site, part.tap, layout.entry)
        elif len(move.parts) == 1:
            _put(layout, site, Difference(there, (here,), move.carry), layout.entry)


def _norms(layout: Layout, inner: list[Event], states: set[int]) -> tuple[str, ...]:
    """Norms of the stream; those inside the sublayers normalise heads or neurons."""
    width = layout.entry.shape[-1]
    inside = [path for path in (layout.attn, layout.mlp) if path]
    kept = [
        e.path
        for e in inner
        if e.is_norm
        and e.outputs[0].shape[-1] == width
        and (e.outputs[0].value in states or not any(e.path.startswith(f"{p}.") for p in inside))
    ]
    return tuple(dict.fromkeys(kept))


def borrow(layouts: list[Layout], prefix: str) -> None:
    """Blocks whose numbers are not finite take the layout of a readable block of their class."""
    donors = {type(x.event.module): (i, x) for i, x in reversed([*enumerate(layouts)]) if x.moves}
    for i, layout in enumerate(layouts):
        donor = donors.get(type(layout.event.module))
        if layout.moves is not None or layout.finite or donor is None:
            continue
        _copy(layout, donor[1], f"{prefix}blocks.{i}.", f"{prefix}blocks.{donor[0]}.")


def _copy(layout: Layout, donor: Layout, name: str, from_name: str) -> None:
    old, new = donor.event.path, layout.event.path

    def moved(path: str) -> str:
        return new + path.removeprefix(old)

    def rename(site: str) -> str:
        return name + site.removeprefix(from_name)

    for site, place in donor.sites.items():
        if isinstance(place, Difference):
            place = Difference(rename(place.after), tuple(map(rename, place.before)), place.carry)
        else:
            place = replace(place, path=moved(place.path))
        _put(layout, rename(site), place, donor.shapes[site])
    layout.attn = donor.attn and moved(donor.attn)
    layout.mlp = donor.mlp and moved(donor.mlp)
    layout.norms = tuple(map(moved, donor.norms))
    layout.kind, layout.parallel = donor.kind, donor.parallel
