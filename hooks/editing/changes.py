"""What can be done to a site: each function here makes one `Change`.

All take `at=` (positions), `rows=` (of the batch) and `heads=` (at q, k, v, z and pattern); what is
left out means all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from layerscope.hooks.editing.change import Change
from layerscope.hooks.editing.others import another_row, batch_mean, drawn
from layerscope.hooks.editing.positions import Positions, Rows
from layerscope.hooks.editing.slips import require_one_argument
from layerscope.hooks.editing.spot import Spot


def change(
    function: Callable[[Tensor], Tensor],
    *,
    at: Positions = None,
    rows: Rows = None,
    heads: Rows = None,
) -> Change:
    """Any function: given the chosen part of the site's tensor, it returns what takes its place.

    The part is a copy in the site's own layout with all its axes, [rows, positions, ...] or, at
    q, k, v and pattern, [rows, heads, positions, ...]; the function may write into it.

    Raises:
        TypeError: it is no function, it takes more than the tensor, or it is one of
            `layerscope.edits` that was not called.
    """
    if not callable(function):
        raise TypeError(f"change() takes a function, got {type(function).__name__}")
    name = getattr(function, "__name__", type(function).__name__)
    require_one_argument(function, name)
    return Change(lambda part, spot: function(part), at, rows, heads, f"change({name})")


def set_to(
    value: Tensor | float, *, at: Positions = None, rows: Rows = None, heads: Rows = None
) -> Change:
    """Replace by `value`: one number, a vector [d], or anything that broadcasts to the chosen part.

    A value with positions but without `at=` is for the positions from 0 on: passes that continue a
    cache beyond them are left alone.
    """
    values = _tensor(value, "set_to")

    def function(part: Tensor, spot: Spot) -> Tensor:
        return spot.fitted(values, part)

    return Change(function, at, rows, heads, "set_to", known=lambda site: values)


def add(
    direction: Tensor,
    scale: float | Tensor = 1.0,
    *,
    keep_norm: bool = False,
    at: Positions = None,
    rows: Rows = None,
    heads: Rows = None,
) -> Change:
    """Add ``scale * direction``.

    Args:
        direction: A vector [d], or anything that broadcasts to the chosen part.
        scale: A number, or a tensor that broadcasts with `direction`.
        keep_norm: Scale the sum back to the norm that the vector at each position (and head) had.
        at: Positions; None: all.
        rows: Rows of the batch; None: all.
        heads: Heads, at `q k v z pattern`; None: all.
    """
    values = _tensor(direction, "add")

    def function(part: Tensor, spot: Spot) -> Tensor:
        factor = scale.to(part) if isinstance(scale, Tensor) else scale
        moved = part + spot.fitted(values.to(part) * factor, part)
        if not keep_norm:
            return moved
        wide = torch.promote_types(part.dtype, torch.float32)
        old, new = (x.to(wide).norm(dim=-1, keepdim=True) for x in (part, moved))
        kept: Tensor = moved.to(wide) * (old / new)
        return kept.to(part.dtype)

    return Change(function, at, rows, heads, "add", known=lambda site: values)


def scale(
    factor: float | Tensor, *, at: Positions = None, rows: Rows = None, heads: Rows = None
) -> Change:
    """Multiply by `factor`: a number, or a tensor that broadcasts to the chosen part."""
    values = _tensor(factor, "scale")

    def function(part: Tensor, spot: Spot) -> Tensor:
        return part * spot.fitted(values, part)

    return Change(function, at, rows, heads, f"scale({_short(factor)})", known=lambda site: values)


def zero(*, at: Positions = None, rows: Rows = None, heads: Rows = None) -> Change:
    """Replace by zeros."""
    return Change(lambda part, spot: torch.zeros_like(part), at, rows, heads, "zero")


def mean(
    values: Tensor | None = None,
    *,
    at: Positions = None,
    rows: Rows = None,
    heads: Rows = None,
) -> Change:
    """Replace by a mean: `values`, measured before, or the mean over this batch.

    Args:
        values: [d], or anything that broadcasts to the chosen part. None takes the mean over all
            rows and positions that this pass has, without padding. Within `generate` give values:
            each pass with a cache has only its own position to average over.
        at: Positions; None: all.
        rows: Rows of the batch; None: all.
        heads: Heads, at `q k v z pattern`; None: all.
    """
    if values is not None:
        return _named(set_to(values, at=at, rows=rows, heads=heads), "mean")

    def function(part: Tensor, spot: Spot) -> Tensor:
        return batch_mean(spot).expand(part.shape)

    return Change(function, at, rows, heads, "mean", whole=True)


def resample(
    pool: Tensor | None = None,
    *,
    seed: int = 0,
    at: Positions = None,
    rows: Rows = None,
    heads: Rows = None,
) -> Change:
    """Replace by what another row has there.

    Args:
        pool: None: each row gets that of another row of the batch, never its own. [n, d]: each row
            and position draws one of n vectors. With one axis more than that (as a capture of n
            other texts has), each row draws one of the n, at the same positions.
        seed: The same seed draws the same, in every pass of a generation.
        at: Positions; None: all.
        rows: Rows of the batch; None: all.
        heads: Heads, at `q k v z pattern`; None: all.
    """
    values = None if pool is None else _tensor(pool, "resample")
    if values is not None and (values.ndim < 2 or not len(values)):
        raise ValueError(f"resample from a pool of shape {list(values.shape)}: give [n, d] or more")

    def function(part: Tensor, spot: Spot) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if values is None:
            return another_row(spot, generator)
        return drawn(spot, part, values, generator)

    return Change(function, at, rows, heads, "resample", whole=values is None)


def project_out(
    directions: Tensor, *, at: Positions = None, rows: Rows = None, heads: Rows = None
) -> Change:
    """Remove the span of `directions`, [d] or [k, d]; they need be neither unit nor orthogonal."""
    given = _tensor(directions, "project_out")
    if given.ndim not in (1, 2) or not given.numel():
        raise ValueError(f"project_out takes [d] or [k, d], got {list(given.shape)}")
    basis = orthonormal(torch.atleast_2d(given))

    def function(part: Tensor, spot: Spot) -> Tensor:
        if part.shape[-1] != basis.shape[0]:
            raise spot.misfit(list(given.shape), part)
        wide = torch.promote_types(part.dtype, torch.float32)
        x, axes = part.to(wide), basis.to(part.device, wide)
        return (x - (x @ axes) @ axes.mT).to(part.dtype)

    return Change(function, at, rows, heads, f"project_out({basis.shape[1]})")


def swap(
    run: Mapping[str, Tensor], *, at: Positions = None, rows: Rows = None, heads: Rows = None
) -> Change:
    """Replace by what the same site held in another run, at the same positions.

    Args:
        run: Site -> tensor in the site's layout: a `Capture`, a `Recording`, a dict. Of one row, it
            serves all rows; otherwise its rows are those of this batch.
        at: Positions; None: all. To take other positions of the run, use `set_to`.
        rows: Rows of the batch; None: all.
        heads: Heads, at `q k v z pattern`; None: all.
    """
    # Not only mappings: a recording is one by site, and not a `Mapping`.
    if isinstance(run, (Tensor, Sequence)) or not hasattr(run, "__contains__"):
        raise TypeError(f"swap takes a mapping of sites to tensors, got {type(run).__name__}")

    def known(site: str) -> Tensor:
        if site not in run:
            raise LookupError(
                f"swap at {site!r}: the other run does not have it; it has "
                f"{', '.join(map(repr, [*getattr(run, 'keys', tuple)()][:6])) or 'no such site'}"
            )
        return run[site]

    def function(part: Tensor, spot: Spot) -> Tensor:
        return spot.same_place(known(spot.site), part)

    return Change(function, at, rows, heads, "swap", known=known)


def skip(*, at: Positions = None, rows: Rows = None) -> Change:
    """Skip a block (at its `resid_post`), or a sublayer (at `attn_out`, `mlp_out`, ...).

    What entered the block leaves it; a sublayer adds nothing to the residual stream. The skipped
    part is still computed, so its keys and values are there for positions that are not skipped.
    """
    return Change(lambda part, spot: spot.skipped(part), at, rows, None, "skip", kind="skip")


def orthonormal(directions: Tensor) -> Tensor:
    """Orthonormal columns [d, r] with the span of `directions` [k, d]; dependent ones add nothing.

    Raises:
        ValueError: a direction is zero, or not finite.
    """
    wide = directions.to(torch.promote_types(directions.dtype, torch.float32))
    norms = wide.norm(dim=-1, keepdim=True)
    if not bool(norms.isfinite().all()) or not bool((norms > 0).all()):
        raise ValueError(
            "project_out: a direction is zero or not finite; give directions of finite numbers, "
            "none of them all 0"
        )
    columns = (wide / norms).mT
    limit = 1e-9 if wide.dtype == torch.float64 else 1e-5
    while True:
        q, r = torch.linalg.qr(columns)
        own = r.diagonal().abs()
        dependent = torch.nonzero(own < limit).flatten().tolist()
        if not dependent and columns.shape[1] <= columns.shape[0]:
            found: Tensor = q
            return found
        # Only the first: what follows a dependent column was measured against an arbitrary one.
        out = dependent[0] if dependent else columns.shape[0]
        columns = torch.cat([columns[:, :out], columns[:, out + 1 :]], dim=1)


def as_changes(given: Change | Callable[..., Any] | Sequence[Any]) -> list[Change]:
    """What a user may write for one site, as changes in order.

    Raises:
        TypeError: it is neither a change, a function, nor a list of these.
    """
    if isinstance(given, Change):
        return [given]
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [one for each in given for one in as_changes(each)]
    if callable(given) and not isinstance(given, (Tensor, type)):
        return [change(given)]
    hint = "set_to(tensor)" if isinstance(given, Tensor) else "edits.zero()"
    raise TypeError(
        f"a change is made by a function of layerscope.edits, such as {hint}, or is a function, "
        f"or a list of these; got {type(given).__name__}"
    )


def _named(made: Change, name: str) -> Change:
    object.__setattr__(made, "name", name)
    return made


def _tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name}() takes a tensor, got {type(value).__name__}") from None


def _short(value: float | Tensor) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else "tensor"
