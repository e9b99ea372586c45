"""What a forward pass still owes: which wanted sites are to come, and the differences among them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from layerscope.hooks.listening.live import Live
from layerscope.hooks.places import AttentionTap, Difference, Place, Tap

Emit = Callable[[str, Tensor, Live], None]
"""Told the site, its tensor, and the tensor of the model that carries its gradient."""


class StopForward(Exception):
    """Leaves the model's forward pass once every wanted site was seen (`stop=True`)."""


@dataclass
class Part:
    """One term of a difference, kept until its last user has it."""

    copy: Tensor
    live: Live
    users: int


class Ledger:
    """What a forward pass still owes: takes tensors as they come, emits the wanted sites."""

    def __init__(self, wanted: Mapping[str, Place], emit: Emit, *, stop: bool) -> None:
        self.wanted = dict(wanted)
        self.sources: dict[str, Tap | AttentionTap] = {}
        """Everything to read at the model: the wanted sites and the terms of differences."""
        self.stopped = False
        """Whether a pass was left early. Not the exception itself: it would hold the whole pass."""
        self._emit = emit
        self._stop = stop
        self._terms: dict[str, tuple[str, ...]] = {}
        self._users: dict[str, list[str]] = defaultdict(list)
        self._ever: set[str] = set()
        self.begin()

    def expand(self, place_of: Callable[[str], Place]) -> None:
        """Follow differences down to what can be read at the model."""
        todo = dict(self.wanted)
        while todo:
            site, place = todo.popitem()
            if not isinstance(place, Difference):
                self.sources[site] = place
            elif site not in self._terms:
                self._terms[site] = (place.after, *place.before)
                for term in self._terms[site]:
                    self._users[term].append(site)
                    todo[term] = place_of(term)

    def begin(self) -> None:
        """A new pass: everything is owed again, leftovers of the last one are dropped."""
        self._pending = set(self.wanted)
        self._parts: dict[str, Part] = {}

    def arrive(self, site: str, live: Live) -> None:
        """`site` was computed. Raises `StopForward` when it was the last, if asked."""
        self._deliver(site, live.value, live)
        if self._stop and not self._pending:
            self.stopped = True
            raise StopForward("every wanted site was seen")

    def never(self) -> list[str]:
        """Wanted sites that no pass has reached."""
        return [site for site in self.wanted if site not in self._ever]

    def sources_of(self, site: str) -> dict[str, Tap | AttentionTap]:
        """What is read at the model for `site`; for differences that never came, what lacks."""
        if site in self.sources:
            return {site: self.sources[site]}
        below: dict[str, Tap | AttentionTap] = {}
        for term in self._terms[site]:
            below |= self.sources_of(term)
        return {s: p for s, p in below.items() if s not in self._ever} or below

    def _deliver(self, site: str, value: Tensor, live: Live) -> None:
        self._ever.add(site)
        if site in self._pending:
            self._pending.discard(site)
            self._emit(site, value, live)
        users = self._users.get(site, [])
        if not users:
            return
        ready = [u for u in users if all(t in self._parts or t == site for t in self._terms[u])]
        # The stream may be added to in place (falcon, llama4), so what has to wait is copied.
        waits = len(ready) < len(users)
        self._parts[site] = Part(value.clone() if waits else value, live, len(users))
        for user in ready:
            self._subtract(user)

    def _subtract(self, site: str) -> None:
        after, *before = (self._parts[term] for term in self._terms[site])
        value = after.copy
        for part in before:
            value = value - part.copy.to(value.device)
        for term in self._terms[site]:
            self._parts[term].users -= 1
            if not self._parts[term].users:
                del self._parts[term]
        # A change of the difference moves `after` by as much, so they share their gradient.
        self._deliver(site, value, after.live)
