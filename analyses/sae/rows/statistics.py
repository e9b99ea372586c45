"""What rows look like from afar: saved with an SAE, compared where it is used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Between what two corpora differ by at one site (stories against a textbook of biology, 9 sites of a
# small Llama: shift up to 0.29, ratio 1.35, misfit 0.06) and what two sites of it differ by.
MOST_SHIFT = 0.5
"""Means further apart than this share of the standard deviation of training do not match."""
MOST_RATIO = 1.5
"""Mean norms or variances of a larger ratio than this, either way, do not match."""
MOST_MISFIT = 0.1
"""Variances of single dimensions that are distributed this differently do not match."""


@dataclass(frozen=True)
class Statistics:
    """Moments of the rows of one site, in raw units, float32 on the CPU."""

    site: str
    rows: int
    """How many were seen."""
    mean: Tensor
    """[d]"""
    variance: Tensor
    """[d], by dimension, over all rows (not n - 1)."""
    mean_norm: float
    """Mean of the Euclidean norms."""

    @property
    def total_variance(self) -> float:
        """Mean squared distance to the mean."""
        return float(self.variance.double().sum())

    def tensors(self) -> dict[str, Tensor]:
        """For safetensors; `read` takes them back."""
        return {
            "mean": self.mean,
            "variance": self.variance,
            "mean_norm": torch.tensor(self.mean_norm, dtype=torch.float64),
            "rows": torch.tensor(self.rows),
        }

    @classmethod
    def read(cls, tensors: dict[str, Tensor], site: str) -> Statistics:
        """From `tensors`; raises KeyError where one is missing."""
        return cls(
            site=site,
            rows=int(tensors["rows"]),
            mean=tensors["mean"],
            variance=tensors["variance"],
            mean_norm=float(tensors["mean_norm"]),
        )


def statistics_of(rows: Tensor, site: str) -> Statistics:
    """Statistics of a sample of rows [n, d], in float64.

    Raises:
        ValueError: no rows.
    """
    if rows.ndim != 2 or not len(rows):
        raise ValueError(f"{site}: statistics of rows [n, d], n at least 1, got {list(rows.shape)}")
    wide = rows.detach().cpu().double()
    return Statistics(
        site=site,
        rows=len(rows),
        mean=wide.mean(0).float(),
        variance=wide.var(0, correction=0).float(),
        mean_norm=float(wide.norm(dim=1).mean()),
    )


def mismatch(trained: Statistics, here: Statistics) -> str | None:
    """In what way rows are not those that an SAE was trained on; None where they may be.

    Four comparisons, each said with both numbers: the width, the mean norm, the variance in all,
    the distance of the means in standard deviations of training (root of the total variance), and
    how the variance is distributed over the dimensions (half the sum of absolute differences of
    their shares: 0 for the same, 1 for no dimension in common). What is allowed grows by
    ``2 sqrt(1/n + 1/m)`` for samples of n and m rows. Rows of another corpus at the same site differ
    too, by less; another site, a missing scale, a missing centre mostly by more. Neighbouring sites
    of one residual stream (`resid_post` and the `resid_mid` after it) may be too alike to tell.
    """
    if trained.mean.shape != here.mean.shape:
        return (
            f"trained on {trained.site} of width {len(trained.mean)}, used on {here.site} of width "
            f"{len(here.mean)}"
        )
    slack = 2 * (1 / trained.rows + 1 / here.rows) ** 0.5
    found = [*_sizes(trained, here, slack), *_places(trained, here, slack)]
    if not found:
        return None
    return (
        f"these rows of {here.site} (n = {here.rows:,}) are not like those of {trained.site} that "
        f"it was trained on (n = {trained.rows:,}): {'; '.join(found)}"
    )


def _sizes(trained: Statistics, here: Statistics, slack: float) -> list[str]:
    pairs = {
        "mean norm": (trained.mean_norm, here.mean_norm),
        "variance in all": (trained.total_variance, here.total_variance),
    }
    return [
        f"{name} {new:.4g}, in training {old:.4g}"
        for name, (old, new) in pairs.items()
        if max(old, new) > MOST_RATIO * (1 + slack) * min(old, new)
    ]


def _places(trained: Statistics, here: Statistics, slack: float) -> list[str]:
    found = []
    shift = float((here.mean.double() - trained.mean.double()).norm())
    spread = trained.total_variance**0.5
    if shift > (MOST_SHIFT + slack) * spread:
        found.append(f"means {shift:.4g} apart, standard deviation in training {spread:.4g}")
    old, new = _shares(trained.variance), _shares(here.variance)
    misfit = float((new - old).abs().sum() / 2)
    if misfit > MOST_MISFIT + slack:
        most = int((new - old).abs().argmax())
        found.append(
            f"{misfit:.0%} of the variance lies in other dimensions (dimension {most} holds "
            f"{float(new[most]):.2%} of it, in training {float(old[most]):.2%})"
        )
    return found


def _shares(variance: Tensor) -> Tensor:
    wide = variance.double()
    return wide / wide.sum().clamp_min(torch.finfo(torch.float64).tiny)
