"""Changes to `q k v pattern z`, and cut edges, where attention is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from layerscope.hooks.attending.cutting import edges
from layerscope.hooks.attending.participant import Participant
from layerscope.hooks.listening.live import Live
from layerscope.hooks.places import AttentionTap

if TYPE_CHECKING:
    from layerscope.hooks.editing.writing import Writer


class AttentionWriter(Participant):
    """Makes a writer's changes to attention."""

    writes = True
    differentiable = False
    done = ("written", "written")

    def __init__(self, writer: Writer, taps: Mapping[str, AttentionTap]) -> None:
        super().__init__(writer.model, taps, writer.passing, writer.notes)
        self._writer = writer

    def meet(self, site: str, live: Live) -> Tensor | None:
        """What takes the place of a part; None leaves it."""
        x = live.value
        new = self._writer.applied(site, x, *self._span(site, x))
        return None if new is x else new

    def cuts(self, site: str, shape: tuple[int, int, int, int]) -> Tensor | None:
        """All edges that are cut in a pattern of this shape [b, h, p, k]; None: none."""
        writer, found = self._writer, None
        asked = [change for change in writer.changes[site] if change.kind == "cut"]
        offset = writer.offset_of(site)
        for change in asked:
            writer.check_known(change, site, offset)
            start, end = offset or 0, self._end(site, shape[2])
            one = edges(change, site, shape, start, first_key(start, *shape[2:]), end)
            writer.saw(site, start + shape[2])
            if bool(one.any()):
                writer.touched.add(change)
                found = one if found is None else found | one
        return found

    def overheard(self, path: str, parts: Mapping[str, Live]) -> None:
        """Never called: this party writes."""

    def _span(self, site: str, x: Tensor) -> tuple[int | None, int | None]:
        """Absolute position of the first one in `x`, and where the prompt ends."""
        offset = self._writer.offset_of(site)
        if not site.endswith((".k", ".v")) or offset is None:
            return offset, self._writer.end_of(site)
        queries = self._writer.queries(site, x.shape[2] - offset)
        return first_key(offset, queries, x.shape[2]), self._end(site, queries)

    def _end(self, site: str, queries: int) -> int | None:
        writer = self._writer
        if writer.offset_of(site):
            return writer.offsets.prompt
        end = writer.end_of(site)
        return queries if end is None else end


def first_key(offset: int, queries: int, keys: int) -> int:
    """Absolute position of the first key: a cache with a window has dropped those before it."""
    return max(0, offset + queries - keys)
