"""The part of a site's tensor that a change is for: taken out, and put back into a new tensor."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

_PART = re.compile(r"(?:encoder\.)?blocks\.[^.]+\.([^.]+)")


@dataclass(frozen=True)
class Axes:
    """Which axes of a site's tensor are positions and heads; rows are always the first."""

    positions: int | None
    heads: int | None
    total: int

    def of_values(self, values: Tensor) -> int | None:
        """The axis of positions in given values, which may lack leading axes."""
        if self.positions is None:
            return None
        axis = self.positions - (self.total - values.ndim)
        return axis if axis >= 0 else None


def axes_of(site: str, x: Tensor) -> Axes:
    """The axes of a site's tensor, from the site's name and the tensor's number of axes."""
    found = _PART.fullmatch(site)
    part = found[1] if found else ""
    if part in ("q", "k", "v", "pattern"):
        return Axes(2, 1, x.ndim)
    if part == "z":
        return Axes(1, 2, x.ndim)
    # [rows, width] of a plain module has no positions, neither have feature maps of an image.
    named = found is not None or site in ("embed", "norm", "logits")
    has_positions = x.ndim == 3 or (x.ndim > 2 and not named)
    return Axes(1 if has_positions else None, None, x.ndim)


@dataclass(frozen=True, eq=False)
class Spot:
    """Where a change is made, in one pass."""

    site: str
    change: str
    axes: Axes
    batch: Tensor | None
    """Rows of the batch, [r]; None: all, in order."""
    lines: Tensor
    """Which of the change's own chosen rows these are, [r]."""
    count: int
    """How many rows the change has chosen."""
    positions: Tensor | None
    """Absolute positions [k] or [chosen rows, k], -1 where this pass has none; None: all."""
    passed: int
    """How many of the change's positions were in passes before this one."""
    offset: int
    heads: Tensor | None
    whole: Tensor
    """The site's whole tensor."""
    own: Tensor | None = None
    """Where the change's own batch is within this one; None: they are the same."""
    before: Tensor | None = None
    real: Tensor | None = None

    def anywhere(self) -> bool:
        """Whether this pass has any of the positions."""
        return self.positions is None or bool((self.positions >= 0).any())

    def absolute(self) -> Tensor:
        """The absolute positions of the taken part, [1 or r, k]."""
        if self.positions is None:
            length = 1 if self.axes.positions is None else self.whole.shape[self.axes.positions]
            return torch.arange(self.offset, self.offset + length)[None]
        kept = self.positions[..., self.kept()]
        return kept[None] if kept.ndim == 1 else kept[self._own_lines(len(kept))]

    def kept(self) -> Tensor:
        """Which of the k asked positions this pass has (for any row), as numbers."""
        assert self.positions is not None
        there = self.positions >= 0
        return torch.nonzero(there if there.ndim == 1 else there.any(0)).flatten()

    def rows(self) -> Tensor:
        """Rows of the batch, [r]."""
        return torch.arange(self.whole.shape[0]) if self.batch is None else self.batch

    def take(self, x: Tensor) -> Tensor:
        """The chosen part of `x`, a copy, in the site's layout."""
        if self._everything():
            return x.clone()
        picked = self.inward(x)[self.index(x.device)]
        return self.outward(picked)

    def put(self, x: Tensor, new: Tensor) -> Tensor:
        """A new tensor: `x` with `new` in the chosen part."""
        if self._everything():
            return new.clone()  # the model may add to it in place, and it may be the user's own
        inner, given = self.inward(x), self.inward(new)
        index = self.index(x.device)
        valid = self._valid()
        if valid is not None:
            valid = valid.to(x.device)
            shape = torch.broadcast_shapes(*(i.shape for i in index))
            mask = valid.reshape(*valid.shape, *(1,) * (len(shape) - valid.ndim)).expand(shape)
            index = tuple(i.expand(shape)[mask] for i in index)
            given = given[mask]
        return self.outward(inner.index_put(index, given))

    def fitted(self, values: Tensor, part: Tensor) -> Tensor:
        """Given values, aligned with the taken part: broadcast, and cut to what this pass has.

        Raises:
            ValueError: they do not fit; the message says the shapes.
        """
        values = values.to(device=part.device, dtype=part.dtype)
        values = self._with_positions(values, part)
        axis = self.axes.of_values(values)
        if axis is not None and self.positions is not None and values.shape[axis] > 1:
            picks = self.passed + self.kept()
            if values.shape[axis] > int(picks.max()):
                values = values.index_select(axis, picks.to(values.device))
        if values.ndim == part.ndim and values.shape[0] == self.count != part.shape[0]:
            values = values.index_select(0, self.lines.to(values.device))
        try:
            return values.expand(part.shape)
        except RuntimeError:
            raise self.misfit(list(values.shape), part) from None

    def same_place(self, values: Tensor, part: Tensor) -> Tensor:
        """The part's own rows and positions in another run's tensor of the whole site.

        Raises:
            ValueError: the other run has too few rows or positions, or another width.
        """
        own = self.whole.shape[0] if self.own is None else len(self.own)
        short = values.ndim != part.ndim or values.shape[0] not in (1, own)
        axis = self.axes.positions
        if axis is not None and not short:
            short = int(self.absolute().max()) >= values.shape[axis]
        rest = [i for i in range(1, values.ndim) if i != axis]
        if short or any(values.shape[i] != self.whole.shape[i] for i in rest):
            raise ValueError(
                f"{self.change} at {self.site!r}: the other run has {list(values.shape)}, this one "
                f"{list(self.whole.shape)} from position {self.offset}; the runs must agree in "
                "width, have the same rows (or the other just one) and the asked positions"
            )
        inner = self.inward(values)
        rows = torch.zeros_like(self.lines) if values.shape[0] == 1 else self.own_rows()
        index: list[Tensor] = [rows]
        if axis is not None:
            index = [rows[:, None], self.absolute().clamp_min(0)]
        if self.heads is not None:
            index = [i[..., None] for i in index] + [self.heads]
        picked = inner[tuple(i.to(values.device) for i in index)]
        return self.outward(picked).to(part.device, part.dtype)

    def skipped(self, part: Tensor) -> Tensor:
        """What there is when a block or sublayer is skipped."""
        if _PART.fullmatch(self.site) and self.site.endswith("_out"):
            return torch.zeros_like(part)
        if self.before is None:
            raise ValueError(
                f"skip at {self.site!r}: it is not known what entered there; skip() goes to a "
                "block's resid_post, attn_out, mlp_out or mixer_out"
            )
        if self.before.shape != self.whole.shape:
            raise ValueError(
                f"skip at {self.site!r}: {list(self.before.shape)} enters and "
                f"{list(self.whole.shape)} leaves, so it cannot be skipped; write zeros instead: edits.zero()"
            )
        return self.take(self.before.to(part.device, part.dtype))

    def own_batch(self) -> Tensor:
        """The site's tensor for the change's own batch.

        Raises:
            ValueError: some of its rows are not in this batch.
        """
        if self.own is None:
            return self.whole
        if bool((self.own < 0).any()):
            raise ValueError(
                f"{self.change} at {self.site!r} looks at all rows of its batch, but they are run "
                "in several parts; give it values of its own, or run all rows together"
            )
        return self.whole[self.own.to(self.whole.device)]

    def own_rows(self) -> Tensor:
        """Numbers of the changed rows within the change's own batch, [r]."""
        if self.own is None:
            return self.rows()
        numbers = torch.full((self.whole.shape[0],), -1)
        kept = torch.nonzero(self.own >= 0).flatten()
        numbers[self.own[kept]] = kept
        return numbers[self.rows()]

    def misfit(self, shape: list[int], part: Tensor) -> ValueError:
        """The error for values of a wrong shape."""
        names = {0: "rows", self.axes.positions: "positions", self.axes.heads: "heads"}
        named = [f"{names.get(i, 'width')} {n}" for i, n in enumerate(part.shape)]
        return ValueError(
            f"{self.change} at {self.site!r}: values of shape {shape} do not fit "
            f"{list(part.shape)} ({', '.join(named)}); give that shape, or one that broadcasts to it"
        )

    def require_finite(self, new: Tensor, part: Tensor) -> None:
        """Refuse NaN, and infinities anywhere but in logits, where there were none before."""
        if not new.is_floating_point():
            return
        bad = new.isnan() if self.site == "logits" else ~new.isfinite()
        bad = bad & part.isfinite()
        if bool(bad.any()):
            where = torch.nonzero(bad)[0].tolist()
            raise ValueError(
                f"{self.change} at {self.site!r} gives {new[tuple(where)].item()} at index {where} "
                f"of {list(new.shape)}, where the model had {part[tuple(where)].item():.4g}; "
                f"{int(bad.sum())} such values"
            )

    def _with_positions(self, values: Tensor, part: Tensor) -> Tensor:
        """Values for one position may come without the axis of positions."""
        axis = self.axes.positions
        single = self.positions is not None and self.positions.shape[-1] == 1
        if single and axis is not None and 2 <= values.ndim == part.ndim - 1:
            rest = (*part.shape[:axis], *part.shape[axis + 1 :])
            if all(n in (1, m) for n, m in zip(values.shape[1:], rest[1:], strict=True)):
                return values.unsqueeze(axis)
        return values

    def _everything(self) -> bool:
        return self.batch is None and self.positions is None and self.heads is None

    def _own_lines(self, count: int) -> Tensor:
        """Which lines of per-row positions belong to the rows; one line serves all."""
        if count not in (1, self.count):
            raise ValueError(
                f"{self.change} at {self.site!r}: positions for {count} rows, but "
                f"{self.count} rows are changed; give one line for each row, or choose with rows="
            )
        return self.lines if count == self.count else torch.zeros_like(self.lines)

    def index(self, device: torch.device) -> tuple[Tensor, ...]:
        """Index of the part among the axes rows, positions, heads."""
        rows = self.rows()[:, None]
        found = [rows]
        if self.axes.positions is not None:
            found.append((self.absolute() - self.offset).clamp_min(0))
        else:
            found[0] = rows[:, 0]
        if self.heads is not None:
            found = [i[..., None] for i in found] + [self.heads]
        return tuple(i.to(device) for i in found)

    def _valid(self) -> Tensor | None:
        """Which of [r, k] this pass has; None: all."""
        if self.positions is None or self.positions.ndim == 1:
            return None
        there = self.absolute() >= 0
        return None if bool(there.all()) else there.expand(len(self.lines), -1)

    def inward(self, x: Tensor) -> Tensor:
        """Axes in the order rows, positions, heads, rest."""
        return x.transpose(1, 2) if self.axes.positions == 2 else x

    def outward(self, x: Tensor) -> Tensor:
        return self.inward(x)
