"""Rows waiting in random order: each that leaves is replaced by a fresh one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Reservoir:
    """A fixed number of slots; a draw takes the rows of random slots and puts fresh rows there.

    Work per draw is that of the batch, whatever the number of slots, and there is one copy of the
    rows. A row stays for ``slots / batch`` draws on average, so that a batch mixes the last ones
    with exponentially fewer older ones: effectively ``2 slots / n`` texts of n tokens.

    Args:
        slots: Rows held.
        widths: Of each site.
        dtypes: Of each site.
    """

    def __init__(
        self,
        slots: int,
        widths: Sequence[int],
        dtypes: Sequence[torch.dtype],
        *,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.slots, self.seed = slots, seed
        self.filled = 0
        self._draws = 0
        self._rows = tuple(
            torch.empty(slots, width, dtype=dtype, device=device)
            for width, dtype in zip(widths, dtypes, strict=True)
        )
        self._groups = torch.empty(slots, dtype=torch.int64)

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """What is held, [filled, width] of each site; the reservoir's own memory."""
        return tuple(rows[: self.filled] for rows in self._rows)

    @property
    def groups(self) -> Tensor:
        """Text of each row held, [filled]."""
        return self._groups[: self.filled]

    def fill(self, fresh: Sequence[Tensor], groups: Tensor) -> int:
        """Put rows into empty slots; returns how many found one."""
        taken = min(len(groups), self.slots - self.filled)
        part = slice(self.filled, self.filled + taken)
        for held, rows in zip(self._rows, fresh, strict=True):
            held[part] = rows[:taken]
        self._groups[part] = groups[:taken]
        self.filled += taken
        return taken

    def swap(self, fresh: Sequence[Tensor], groups: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """As many rows as are given, drawn at random from different slots, and their texts.

        Raises:
            ValueError: more rows than slots, or slots still empty.
        """
        size = len(groups)
        if self.filled < self.slots or size > self.slots:
            raise ValueError(
                f"a draw of {size:,} rows from {self.slots:,} slots, of which {self.filled:,} are "
                "filled: fill all, and draw at most as many"
            )
        # A generator per draw: the number of draws is all there is to remember.
        random = np.random.default_rng((self.seed, self._draws))
        index = torch.from_numpy(random.choice(self.slots, size, replace=False))
        self._draws += 1
        drawn = []
        for held, rows in zip(self._rows, fresh, strict=True):
            places = index.to(held.device)
            drawn.append(held.index_select(0, places))
            held.index_copy_(0, places, rows.to(held.device, held.dtype))
        left = self._groups[index]
        self._groups[index] = groups
        return tuple(drawn), left

    def state(self) -> dict[str, Tensor]:
        """A copy of everything, on the CPU."""
        rows = {f"rows.{i}": held.cpu().clone() for i, held in enumerate(self.rows)}
        counts = torch.tensor([self.slots, self.filled, self._draws, self.seed])
        return {"counts": counts, "groups": self.groups.clone(), **rows}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on as the reservoir that gave `state`.

        Raises:
            ValueError: it had other slots, sites or another seed; says both.
        """
        slots, filled, draws, seed = state["counts"].tolist()
        there = [list(held.shape) for held in self._rows]
        given = [[slots, state[n].shape[1]] for n in sorted(state) if n.startswith("rows.")]
        if given != there or seed != self.seed:
            raise ValueError(
                f"the state is of a reservoir {given} with seed {seed}, this one is {there} with "
                f"seed {self.seed}; build it with the same sites, reservoir_rows and seed"
            )
        self.filled, self._draws = filled, draws
        for i, held in enumerate(self._rows):
            held[:filled] = state[f"rows.{i}"].to(held.device)
        self._groups[:filled] = state["groups"]
