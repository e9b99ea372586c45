"""Matryoshka (Bussmann et al. 2025, arXiv 2503.17547): the first latents must do without the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from layerscope.analyses.sae.architectures.architecture import Loss, Moment, Weights
from layerscope.analyses.sae.architectures.auxk import auxk
from layerscope.analyses.sae.architectures.batchtopk import BatchTopK
from layerscope.analyses.sae.architectures.terms import settle

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Widths of the levels as parts of the dictionary, where none are given."""


@dataclass(frozen=True, kw_only=True)
class Matryoshka(BatchTopK):
    """``sum_m w_m |y - (sum_{i < F_m} f_i d_i + b_dec)|^2 + AuxK``, codes as in `BatchTopK`.

    Every prefix of the dictionary is to reconstruct by itself, so that a broad latent cannot leave
    what it stands for to narrower ones (absorption). In use it is a BatchTopK.
    """

    name: ClassVar[str] = "matryoshka"

    widths: tuple[int, ...] | None = None
    """F_m, increasing, the last the whole width; None: 1/16, 1/8, 1/4, 1/2 and all of it."""
    level_weights: tuple[float, ...] | None = None
    """w_m; None: 1 each, and the sum is taken as in SAELens, against which AuxK has its weight."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.widths is not None:
            settle(self, "widths", least=1, whole=True)
            if list(self.widths) != sorted(set(self.widths)):
                raise ValueError(f"widths={self.widths!r} must increase")
        if self.level_weights is not None:
            settle(self, "level_weights", least=0)
            levels = len(self.widths or SHARES)
            if len(self.level_weights) != levels:
                raise ValueError(f"{len(self.level_weights)} level_weights for {levels} levels")

    def loss(self, weights: Weights, x: Tensor, y: Tensor, moment: Moment) -> Loss:
        pre, codes = self.selected(weights, x, moment)
        levels = self.levels(weights.encoder.shape[1])
        error = y - weights.b_dec[:, None]
        terms = []
        shares = self.level_weights or (1.0,) * len(levels)
        for low, high, weight in zip((0, *levels), levels, shares, strict=False):
            error = error - codes.decoded_between(weights.decoder, low, high)
            squared = error.square().sum(-1).mean(-1)
            terms.append(weight * squared)
        revival = auxk(weights, x, pre, error, moment, self.aux, self.subtract_b_dec)
        return Loss(
            total=torch.stack(terms).sum(0) + revival,
            error=squared.detach(),
            l0=codes.l0(),
            active=codes.active(),
            parts={"auxk": revival.detach()} | _named(levels, terms),
        )

    def copies(self, latents: int, device: torch.device) -> tuple[float, float]:
        return (2, 2) if self._is_sparse(latents, device) else (5.5, 5.5)

    def levels(self, latents: int) -> tuple[int, ...]:
        """F_m for a dictionary of this width.

        Raises:
            ValueError: the last of `widths` is another width.
        """
        if self.widths is None:
            return tuple(sorted({max(1, round(share * latents)) for share in SHARES}))
        if self.widths[-1] != latents:
            raise ValueError(
                f"widths={self.widths!r} end at {self.widths[-1]:,}, the dictionary has "
                f"{latents:,} latents: the last level must be all of it"
            )
        return self.widths


def _named(levels: tuple[int, ...], terms: list[Tensor]) -> dict[str, Tensor]:
    return {
        f"first {level:,} latents": term.detach() for level, term in zip(levels, terms, strict=True)
    }
