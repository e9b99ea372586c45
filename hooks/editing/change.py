"""One change: what is done to the tensor of a site, and at which rows, positions and heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from layerscope.hooks.editing.positions import (
    Positions,
    Rows,
    checked,
    passed_by,
    positions_in,
    rows_in,
)
from layerscope.hooks.editing.spot import Axes, Spot, axes_of


@dataclass(frozen=True, eq=False)
class Change:
    """What is done to a site's tensor, and where. Made by the functions of `layerscope.edits`."""

    function: Callable[[Tensor, Spot], Tensor]
    """Given the chosen part in the site's own layout ([rows, positions, ...], or [rows, heads,
    positions, ...] for q, k, v and pattern) and where it is from, returns what takes its place."""
    at: Positions = None
    rows: Rows = None
    heads: Rows = None
    name: str = "change"
    onto: Tensor | None = None
    """Where in the batch its own rows are, [own rows]; -1: not in this batch. None: they are the batch."""
    known: Callable[[str], Tensor] | None = None
    """The site's new values, where they are given as a tensor whose positions count from 0."""
    whole: bool = False
    """Whether it depends on rows and positions beyond those it changes."""
    kind: str = "any"
    """"any", "skip" or "cut": where it can go."""
    keys: Positions = None
    """Of a cut: the keys, as `at` are its queries."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", checked(self.at))
        for name in ("rows", "heads"):
            found = checked(getattr(self, name), name)
            if isinstance(found, Tensor) and found.ndim > 1:
                raise ValueError(f"{name} has shape {list(found.shape)}: give one axis of integers")
            object.__setattr__(self, name, found)

    def on(self, rows: Tensor) -> Change:
        """The same change, its own row i applied at batch row ``rows[i]`` (-1: not in this batch)."""
        return replace(self, onto=torch.as_tensor(rows, dtype=torch.long))

    def applied(
        self,
        x: Tensor,
        site: str,
        *,
        offset: int = 0,
        before: Tensor | None = None,
        real: Tensor | None = None,
        end: int | None = None,
    ) -> Tensor:
        """`x` with the change made: a new tensor, or `x` itself where nothing is to be changed.

        Args:
            x: What the site holds, in the site's layout.
            site: Canonical name; it says which axes are positions and heads.
            offset: Absolute position of the first position of `x`.
            before: What entered the block, in the shape of `x`; needed by ``skip()``.
            real: Which positions are not padding [rows, positions], for means.
            end: Where the prompt ends, from which negative positions count; None: at the end of
                `x` if it begins at 0, else they are not in it.

        Raises:
            IndexError: a row outside the batch, or a negative position before the start.
            ValueError: values that do not fit, or that are NaN or infinite.
        """
        axes = axes_of(site, x)
        spot = self._spot(x, site, axes, offset, before, real, end)
        if spot is None:
            return x
        part = spot.take(x)
        new = self.function(part, spot)
        return spot.put(x, self._fitting(new, part, spot))

    def _spot(
        self,
        x: Tensor,
        site: str,
        axes: Axes,
        offset: int,
        before: Tensor | None,
        real: Tensor | None,
        end: int | None,
    ) -> Spot | None:
        """Where in `x` the change is for; None: nowhere."""
        count, lines, batch = self._rows(x.shape[0], site)
        positions, passed = None, 0
        if axes.positions is not None:
            length = x.shape[axes.positions]
            at = self._where(site, axes, offset, length)
            positions = positions_in(at, offset, length, site, end)
            passed = passed_by(at, offset, length)
        elif self.at is not None:
            raise ValueError(
                f"at={self.at!r} at {site!r}, which has no positions: its tensor is {list(x.shape)}"
            )
        if self.heads is not None and axes.heads is None:
            raise ValueError(
                f"heads={self.heads!r} at {site!r}, which has no heads; q, k, v, z and pattern have"
            )
        heads = (
            None if axes.heads is None else rows_in(self.heads, x.shape[axes.heads], site, "head")
        )
        spot = Spot(
            site=site,
            change=self.name,
            axes=axes,
            batch=batch,
            lines=lines,
            count=count,
            positions=positions,
            passed=passed,
            offset=offset,
            heads=heads,
            whole=x,
            own=self.onto,
            before=before,
            real=real,
        )
        return spot if len(lines) and spot.anywhere() else None

    def _rows(self, size: int, site: str) -> tuple[int, Tensor, Tensor | None]:
        """How many rows are chosen, which of them are in this batch, and where (None: all)."""
        chosen = rows_in(self.rows, size if self.onto is None else len(self.onto), site)
        if self.onto is None:
            count = size if chosen is None else len(chosen)
            return count, torch.arange(count), chosen
        onto = self.onto.cpu() if chosen is None else self.onto.cpu()[chosen]
        if len(onto) and int(onto.max()) >= size:
            raise IndexError(f"row {int(onto.max())} of {site!r}: the batch has {size} rows")
        here = torch.nonzero(onto >= 0).flatten()
        return len(onto), here, onto[here]

    def _where(self, site: str, axes: Axes, offset: int, length: int) -> Positions:
        """`at`; where that is None, all positions that the given values have."""
        if self.at is not None or self.known is None:
            return self.at
        values = self.known(site)
        axis = axes.of_values(values)
        if axis is None or values.shape[axis] == 1:
            return None
        if offset == 0 and values.shape[axis] != length:
            raise ValueError(
                f"{self.name} at {site!r}: {values.shape[axis]} positions given "
                f"{list(values.shape)}, the pass has {length}; choose with at="
            )
        return slice(0, values.shape[axis])

    def _fitting(self, new: Tensor, part: Tensor, spot: Spot) -> Tensor:
        if not isinstance(new, Tensor):
            raise ValueError(
                f"{self.name} at {spot.site!r} returned {type(new).__name__}, not a tensor of "
                f"shape {list(part.shape)}"
            )
        new = new.to(device=part.device, dtype=part.dtype)
        if new.shape != part.shape:
            raise ValueError(
                f"{self.name} at {spot.site!r} returned shape {list(new.shape)} for "
                f"{list(part.shape)}; return a tensor of the same shape"
            )
        spot.require_finite(new, part)
        return new

    def __repr__(self) -> str:
        where = [
            f"{label}={x.tolist() if isinstance(x, Tensor) else x!r}"
            for label, x in self._chosen()
            if x is not None
        ]
        return self.name + (f" ({', '.join(where)})" if where else "")

    def _chosen(self) -> tuple[tuple[str, Positions], ...]:
        cut = self.kind == "cut"
        found = (("queries" if cut else "at", self.at), ("keys", self.keys))
        return (*found, ("rows", self.rows), ("heads", self.heads))
