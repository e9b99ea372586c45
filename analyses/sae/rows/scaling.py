"""Units of the training, ``x~ = (x - centre) scale``, and how a trained SAE gets rid of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from layerscope.analyses.sae.rows.median import geometric_median

KINDS = ("none", "scale", "whiten", "per_dimension")
RIDGE = 1e-3
"""Added to every eigenvalue when whitening, as a share of their mean."""
DEAD = 1e-6
"""A dimension whose standard deviation is below this share of the largest does not vary."""


@dataclass(frozen=True)
class Affine:
    """An invertible map of rows, ``x~ = (x - centre) scale``."""

    centre: Tensor
    """[d]"""
    scale: Tensor
    """[] one factor, [d] one for each dimension, or [d, d] a matrix that rows are multiplied with."""

    def __call__(self, x: Tensor) -> Tensor:
        """Rows [..., d] in the units of the training."""
        return times(x - self.centre.to(x), self.scale.to(x))

    def inverse(self, x: Tensor) -> Tensor:
        """Rows [..., d] of the training in raw units again."""
        return times(x, inverse_of(self.scale).to(x)) + self.centre.to(x)

    def to(self, device: torch.device | str) -> Affine:
        return Affine(self.centre.to(device), self.scale.to(device))

    @property
    def one_factor(self) -> bool:
        """Whether all directions are scaled alike."""
        return self.scale.ndim == 0


def side_by_side(affines: Sequence[Affine]) -> Affine:
    """The map of the concatenated vectors of several sites, each by its own."""
    centre = torch.cat([a.centre for a in affines])
    if any(a.scale.ndim == 2 for a in affines):
        return Affine(centre, torch.block_diag(*[_matrix(a) for a in affines]))
    return Affine(centre, torch.cat([a.scale.expand_as(a.centre) for a in affines]))


def identity(width: int, device: torch.device | str = "cpu") -> Affine:
    """The map that changes nothing."""
    return Affine(torch.zeros(width, device=device), torch.ones((), device=device))


def fit(kind: str, x: Tensor, *, site: str = "rows") -> Affine:
    """The units in which rows like `x` are trained on.

    Args:
        kind: What is done after the rows were centred. ``"none"``; ``"scale"``: one factor that
            makes the mean norm ``sqrt(d)`` (Anthropic's April 2024 update, with the centre taken
            off first); ``"per_dimension"``: each dimension at standard deviation 1; ``"whiten"``:
            ``E diag(l + ridge)^-1/2`` of the covariance's eigenvectors E and eigenvalues l (arXiv
            2511.13981; its ridge of 1e-3 is here 1e-3 of the mean eigenvalue, so that it means the
            same in all units). The centre is the geometric median; the mean where whitening.
        x: A sample of rows [n, d].
        site: What errors call them.

    Returns:
        float32 tensors on the device of `x`.

    Raises:
        ValueError: another kind, or rows that are all the same.

    Warns:
        UserWarning: dimensions that do not vary, by number; ``"per_dimension"`` leaves their
            factor at that of the mean variance.
    """
    if kind not in KINDS:
        raise ValueError(f"scaling {kind!r}; there are {', '.join(KINDS)}")
    # MPS has no float64.
    wide = x.to(torch.float32 if x.device.type == "mps" else torch.float64)
    _refuse_constant(wide, site)
    dead = dead_dimensions(wide)
    if dead and kind in ("per_dimension", "whiten"):
        warnings.warn(_names(dead, site), stacklevel=2)
    centre = wide.mean(0) if kind == "whiten" else geometric_median(wide)
    return Affine(centre.float(), _scale(kind, wide - centre, dead).float())


def _scale(kind: str, centred: Tensor, dead: list[int]) -> Tensor:
    width = centred.shape[1]
    if kind == "none":
        return torch.ones((), device=centred.device)
    if kind == "scale":
        factor: Tensor = width**0.5 / centred.norm(dim=1).mean()
        return factor
    if kind == "per_dimension":
        variance: Tensor = centred.var(0, correction=0)
        variance[dead] = variance.mean()
        return variance.rsqrt()
    covariance = centred.T @ centred / len(centred)
    values, vectors = torch.linalg.eigh(covariance)
    # eigh can return -1e-9 where the covariance is not of full rank.
    whitening: Tensor = vectors * (values.clamp_min(0) + RIDGE * values.mean()).rsqrt()
    return whitening


def dead_dimensions(x: Tensor) -> list[int]:
    """Which dimensions of the rows [n, d] do not vary, next to the one that varies most."""
    spread = x.std(0, correction=0)
    return [int(i) for i in (spread <= DEAD * spread.max()).nonzero().flatten()]


def _refuse_constant(x: Tensor, site: str) -> None:
    spread = x.std(0, correction=0).norm()
    size = x.norm(dim=1).mean()
    if len(x) < 2 or spread <= DEAD * size:
        raise ValueError(
            f"{site} is constant: its {len(x):,} rows differ by {float(spread):.3g} around a norm "
            f"of {float(size):.3g}, so there is nothing to learn; check that the site is meant, "
            "and that the rows are of more than one token"
        )


def _names(dead: list[int], site: str) -> str:
    shown = ", ".join(map(str, dead[:8])) + (", ..." if len(dead) > 8 else "")
    return f"{site}: {len(dead)} dimensions do not vary ({shown}); they are not scaled up"


def times(x: Tensor, scale: Tensor) -> Tensor:
    """Rows times a scale of an `Affine`, whatever its shape."""
    return x @ scale if scale.ndim == 2 else x * scale


def inverse_of(scale: Tensor) -> Tensor:
    """The scale that undoes it, of the same shape."""
    if scale.ndim < 2:
        return scale.reciprocal()
    inverse: Tensor = torch.linalg.inv(scale if scale.device.type == "mps" else scale.double())
    return inverse


def _matrix(affine: Affine) -> Tensor:
    if affine.scale.ndim == 2:
        return affine.scale
    return torch.diag(affine.scale.expand_as(affine.centre))
