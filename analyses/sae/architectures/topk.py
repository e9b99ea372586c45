"""TopK (Gao et al. 2024, arXiv 2406.04093): the k largest pre-activations of each row, no penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from layerscope.analyses.sae.architectures.architecture import (
    Architecture,
    Loss,
    Moment,
    Weights,
)
from layerscope.analyses.sae.architectures.auxk import auxk
from layerscope.analyses.sae.architectures.dense import preactivations
from layerscope.analyses.sae.architectures.sparse import Codes, pays
from layerscope.analyses.sae.architectures.terms import settle


@dataclass(frozen=True, kw_only=True)
class TopK(Architecture):
    """``|y - y_hat|^2 + AuxK``, codes being the k largest of each row where positive."""

    name: ClassVar[str] = "topk"
    swept: ClassVar[tuple[str, ...]] = ("k",)
    whole_k: ClassVar[bool] = True
    """Whether a row cannot have a part of a latent; a mean over rows can."""

    k: tuple[int, ...] = (32,)
    """Latents per row, one number for each SAE of the group."""
    aux: float = 1 / 32
    """Weight of the auxiliary loss that revives dead latents; 0 turns it off."""
    sparse: bool | None = None
    """Whether to use sparse products; None takes what is faster for this width, k and device."""

    def __post_init__(self) -> None:
        settle(self, "k", least=1, whole=self.whole_k)

    def loss(self, weights: Weights, x: Tensor, y: Tensor, moment: Moment) -> Loss:
        pre, codes = self.selected(weights, x, moment)
        error = y - codes.decoded(weights.decoder) - weights.b_dec[:, None]
        squared = error.square().sum(-1).mean(-1)
        revival = auxk(weights, x, pre, error, moment, self.aux, self.subtract_b_dec)
        return Loss(
            total=squared + revival,
            error=squared.detach(),
            l0=codes.l0(),
            active=codes.active(),
            parts={"auxk": revival.detach()},
        )

    def copies(self, latents: int, device: torch.device) -> tuple[float, float]:
        return (1, 1) if self._is_sparse(latents, device) else (4, 4)

    def in_use(self, weights: Weights, member: int, moment: Moment) -> dict[str, Any]:
        return {"activation": "topk", "k": self.k[member % len(self.k)]}

    def selected(self, weights: Weights, x: Tensor, moment: Moment) -> tuple[Tensor, Codes]:
        """Pre-activations and the codes among them."""
        pre = self._pre(weights, x, moment)
        most = max(self.k)
        indices = pre.detach().topk(most, dim=-1).indices
        keep = None
        if min(self.k) < most:
            ks = torch.tensor(self.k, device=x.device)[:, None, None]
            keep = torch.arange(most, device=x.device) < ks
        return pre, Codes(weights, x, pre, indices, self.subtract_b_dec, keep)

    def _pre(self, weights: Weights, x: Tensor, moment: Moment) -> Tensor:
        """Without a graph where the sparse products make their own."""
        group, latents = weights.b_enc.shape
        if not self._is_sparse(latents, x.device):
            return preactivations(weights, x, self.subtract_b_dec)
        with torch.no_grad():
            out = moment.wide(group * x.shape[1] * latents, x)
            return preactivations(weights, x, self.subtract_b_dec, out)

    def _is_sparse(self, latents: int, device: torch.device) -> bool:
        return pays(device, latents, max(self.k)) if self.sparse is None else self.sparse
