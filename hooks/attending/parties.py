"""Attention computations, and those who take part in them: listeners and writers, one after the other.

Each part of a computation (q, k, v, then the probabilities, then the head outputs) is handed to all
parties in the order in which they came, so that whoever comes later meets what the earlier ones
wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from layerscope.hooks.attending.pattern import require_same
from layerscope.hooks.listening.live import Live, Notes

PARTS = ("q", "k", "v", "pattern", "z")


@dataclass(frozen=True)
class Attention:
    """One attention computation that is about to happen, as one of the routes sees it."""

    q: Live
    k: Live
    v: Live
    run: Callable[[], Any]
    """The model's own computation."""
    z: Callable[[Any], Live]
    """The head outputs in what `run` returned."""
    written_out: Callable[[Any], tuple[Tensor, Live] | Live]
    """Given what `run` returned: the probabilities that it already holds, or the same attention
    written out, as (output in the model's own layout, probabilities)."""
    replaced: Callable[[Any, Tensor], Any]
    """What `run` returned, with another output."""
    dropout: bool
    """Whether the model's own computation drops probabilities at random."""
    changed: Callable[[Mapping[str, Tensor], Tensor | None], Attention]
    """The same computation with other q, k, v, and with edges cut (boolean, True is cut)."""
    weighted: Callable[[Tensor], Tensor]
    """The output, in the model's own layout, that given probabilities make of v."""
    allowed: Callable[[], Tensor]
    """Which keys each query may attend to, boolean, broadcasting to [b, h, p, k]."""
    obeys: bool
    """Whether the model's own computation takes any mask."""


class Party(Protocol):
    """Who takes part in the attention computations of chosen modules."""

    @property
    def owner(self) -> Mapping[nn.Module, str]:
        """Each module in which something is computed that is of interest, and for which path."""

    @property
    def notes(self) -> Notes: ...

    @property
    def differentiable(self) -> bool:
        """Whether the model must go on with the very probabilities that are shown."""

    @property
    def writes(self) -> bool: ...

    def next(self, path: str, parts: set[str]) -> Mapping[str, str]:
        """The next computation at `path` in this pass, of these parts: part -> wanted site."""

    def meet(self, site: str, live: Live) -> Tensor | None:
        """A part was computed. Returns what takes its place, in the site's layout, or None."""

    def cuts(self, site: str, shape: tuple[int, int, int, int]) -> Tensor | None:
        """The edges to cut in a pattern [b, h, p, k] of this shape, boolean, broadcasting to it."""

    def overheard(self, path: str, parts: Mapping[str, Live]) -> None:
        """A computation was found written out (told to those who do not write)."""


Turn = tuple[Party, Mapping[str, str]]


def handed_round(turns: Sequence[Turn], part: str, live: Live) -> Live:
    """`live` after all parties met it."""
    for party, sites in turns:
        if part in sites:
            new = party.meet(sites[part], live)
            if new is not None:
                live = replace(live, tensor=live.restore(new))
    return live


def attend(taking: Sequence[tuple[Party, str]], attention: Attention) -> Any:
    """Run one attention computation with everybody who takes part in it."""
    turns = [(party, party.next(path, set(PARTS))) for party, path in taking]
    attention = _inputs_changed(turns, attention)
    edges = _edges(turns, attention)
    if edges is None:
        result = attention.run()
    elif attention.obeys:
        attention = attention.changed({}, edges)
        result = attention.run()
    else:
        attention, result = _cut_written_out(turns, taking[0][1], attention, edges)
    if any("pattern" in sites for _, sites in turns):
        result = _with_pattern(turns, taking[0][1], attention, result)
    output = attention.z(result)
    met = handed_round(turns, "z", output)
    return result if met is output else attention.replaced(result, met.tensor)


def _inputs_changed(turns: Sequence[Turn], attention: Attention) -> Attention:
    new: dict[str, Tensor] = {}
    for part in ("q", "k", "v"):
        live: Live = getattr(attention, part)
        met = handed_round(turns, part, live)
        if met is not live:
            new[part] = met.tensor
    return attention.changed(new, None) if new else attention


def _edges(turns: Sequence[Turn], attention: Attention) -> Tensor | None:
    found: Tensor | None = None
    q, k = attention.q.value.shape, attention.k.value.shape
    for party, sites in turns:
        cut = party.cuts(sites["pattern"], (*q[:3], k[2])) if "pattern" in sites else None
        if cut is not None:
            found = cut if found is None else found | cut
            require_keys(sites["pattern"], attention.allowed(), found)
    return found


def require_keys(site: str, allowed: Tensor, cut: Tensor) -> None:
    """Refuse to leave a query that could attend without any key.

    Raises:
        ValueError: naming the first such query.
    """
    dead = ~(allowed & ~cut).any(-1) & allowed.any(-1)
    if bool(dead.any()):
        row, head, query = torch.nonzero(dead)[0].tolist()
        raise ValueError(
            f"cut at {site!r} leaves a query without any key: query {query} of this pass (row {row}, "
            f"head {head}), {int(dead.sum())} in all; leave it one, such as the query itself or "
            "position 0"
        )


def _cut_written_out(
    turns: Sequence[Turn], path: str, attention: Attention, edges: Tensor
) -> tuple[Attention, Any]:
    """Edges cut in a computation that takes no masks: the model goes on with it written out."""
    plain = attention.run()
    made = attention.written_out(plain)
    if not isinstance(made, Live) and not attention.dropout:
        _compare(path, attention, plain, *made)
    attention = replace(attention.changed({}, edges), dropout=True)  # nothing left to compare with
    again = attention.written_out(None)
    assert not isinstance(again, Live)
    for party, _ in turns:
        if party.writes:
            party.notes.add(
                "this attention kernel takes no masks, so where edges are cut the model continues "
                "with attention written out; its outputs differ by rounding"
            )
    return attention, attention.replaced(plain, again[0])


def _with_pattern(turns: Sequence[Turn], path: str, attention: Attention, result: Any) -> Any:
    """Show the probabilities; where they are written, or must be differentiable, go on with them."""
    made = attention.written_out(result)
    pattern = made if isinstance(made, Live) else made[1]
    if not isinstance(made, Live):
        if not attention.dropout:
            _compare(path, attention, result, *made)
        result = _noted(turns, attention, result, made[0])
    met = handed_round(turns, "pattern", pattern)
    same = met is pattern or torch.equal(met.value, pattern.value)
    if met is pattern or (same and not met.tensor.requires_grad):
        return result
    for party, sites in turns:
        if party.writes and "pattern" in sites and not isinstance(made, Live):
            party.notes.add(
                "a fused attention kernel never makes its probabilities, so where patterns are "
                "changed the model continues with attention written out; its outputs differ by "
                f"rounding{', and lack attention dropout' * attention.dropout}"
            )
    return attention.replaced(result, attention.weighted(met.tensor))


def _noted(turns: Sequence[Turn], attention: Attention, result: Any, output: Tensor) -> Any:
    """Say how the probabilities were made; go on with them where they must be differentiable."""
    asking = [party for party, sites in turns if "pattern" in sites and not party.writes]
    for party in asking:
        if not party.differentiable:
            party.notes.add("patterns are computed from q and k beside the fused attention kernel")
            continue
        party.notes.add(
            "grad=True: a fused attention kernel has no probabilities to differentiate, so where "
            "patterns are wanted the model continues with attention written out (eager); its "
            f"outputs differ by rounding{', and lack attention dropout' * attention.dropout}",
            warn=True,
        )
    if any(party.differentiable for party in asking):
        return attention.replaced(result, output)
    return result


def _compare(path: str, attention: Attention, result: Any, output: Tensor, pattern: Live) -> None:
    written = attention.z(attention.replaced(result, output))
    require_same(path, attention.z(result).value, written.value, pattern.value)
