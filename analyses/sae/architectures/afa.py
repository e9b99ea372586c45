"""top-AFA (Lee et al. 2025, arXiv 2503.24277): no k; the norm of the input says how many latents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.linalg import vector_norm

from layerscope.analyses.sae.architectures.architecture import (
    Architecture,
    Loss,
    Moment,
    Weights,
)
from layerscope.analyses.sae.architectures.auxk import auxk
from layerscope.analyses.sae.architectures.dense import preactivations
from layerscope.analyses.sae.architectures.selecting import largest
from layerscope.analyses.sae.architectures.sparse import Codes, pays
from layerscope.analyses.sae.architectures.terms import each, settle
from layerscope.analyses.sae.sae import SAE

START = 64
"""Latents per row that are looked at first."""


@dataclass(frozen=True, kw_only=True)
class AFA(Architecture):
    """``|y - y_hat|^2 + afa d <(|f n| - |x - b_dec|)^2> + AuxK``, as many latents as reach the norm.

    Of nearly orthogonal directions the norm of the sum is nearly that of the codes. So each row
    keeps its m largest codes (times the norms n of decoder rows) with m such that their norm comes
    nearest to that of the centred row, and the loss draws the two together. The norms n count as
    constants, for they are held at 1, and so does the norm of the row.

    At equal sparsity it reconstructs worse than TopK; what it gives is a number of latents that
    nobody had to choose, often above the width of the rows.
    """

    name: ClassVar[str] = "afa"
    swept: ClassVar[tuple[str, ...]] = ("afa",)

    afa: tuple[float, ...] = (1 / 32,)
    """Weight of the norms' term against the *mean* over d of the squared error, as in the paper."""
    aux: float = 1 / 32
    """Weight of the auxiliary loss that revives dead latents; 0 turns it off."""
    sparse: bool | None = None
    """Whether to use sparse products; None takes what is faster for the widest row of the batch."""
    paper_exact: bool = False
    """As in the authors' code: no b_enc, and a loss that draws |f| (without n) to |x| (with b_dec in
    it), while the selection is by ``|f n|`` and ``|x - b_dec|``. The code also standardises each row."""

    def __post_init__(self) -> None:
        settle(self, "afa", least=0)

    def loss(self, weights: Weights, x: Tensor, y: Tensor, moment: Moment) -> Loss:
        weights = self._used(weights)
        norms, target = vector_norm(weights.decoder.detach(), dim=-1), self._target(weights, x)
        pre = preactivations(weights, x, self.subtract_b_dec)
        indices, keep = nearest_norm(pre.detach(), norms, target, START)
        sparse = self.sparse
        if sparse is None:
            sparse = pays(x.device, pre.shape[-1], indices.shape[-1])
        pre = pre.detach() if sparse else pre
        codes = Codes(weights, x, pre, indices, self.subtract_b_dec, keep)
        error = y - codes.decoded(weights.decoder) - weights.b_dec[:, None]
        squared = error.square().sum(-1).mean(-1)
        away = self._norms(codes, norms) - (vector_norm(x, dim=-1) if self.paper_exact else target)
        drawn = each(self.afa, x) * moment.warm * y.shape[-1] * away.square().mean(-1)
        revival = auxk(weights, x, pre, error, moment, self.aux, self.subtract_b_dec)
        return Loss(
            total=squared + drawn + revival,
            error=squared.detach(),
            l0=codes.l0(),
            active=codes.active(),
            parts={"afa": drawn.detach(), "auxk": revival.detach()},
        )

    def copies(self, latents: int, device: torch.device) -> tuple[float, float]:
        return (3, 3)

    def in_use(self, weights: Weights, member: int, moment: Moment) -> dict[str, Any]:
        return {"activation": "afa"}

    def export(self, weights: Weights, member: int, moment: Moment) -> SAE:
        return super().export(self._used(weights), member, moment)

    def _used(self, weights: Weights) -> Weights:
        # Times 0 rather than left out: it keeps a gradient, of zeros.
        return replace(weights, b_enc=weights.b_enc * 0) if self.paper_exact else weights

    @torch.no_grad()
    def _target(self, weights: Weights, x: Tensor) -> Tensor:
        """Norms to reach, [group, batch]."""
        rows = x - weights.b_dec[:, None] if self.subtract_b_dec else x
        norms: Tensor = vector_norm(rows, dim=-1)
        return norms.expand(len(weights.b_dec), -1)

    def _norms(self, codes: Codes, norms: Tensor) -> Tensor:
        """Of the codes of each row, [group, batch]."""
        values = codes.values
        if not self.paper_exact:
            wide = norms[:, None].expand(-1, values.shape[1], -1)
            values = values * wide.gather(-1, codes.places.indices)
        reached: Tensor = vector_norm(values, dim=-1)
        return reached


def nearest_norm(pre: Tensor, norms: Tensor, target: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """The latents whose joint norm comes nearest to the target, as `activations.afa` has it.

    Args:
        pre: [group, batch, latents], without a graph.
        norms: Of the decoder's rows, [group, latents].
        target: [group, batch].
        start: Latents of a row to look at first; rows that do not reach their norm get more.

    Returns:
        Places [group, batch, most in a row], and which of them are kept, same shape.
    """

    def reached(top: Tensor) -> Tensor:
        return top.clamp(min=0).square().cumsum(-1).sqrt()

    def short(top: Tensor) -> Tensor:
        return (reached(top)[..., -1] < target) & (top[..., -1] > 0)

    top, places = largest(pre * norms[:, None], start, short)
    norm = reached(top)
    if top.shape[-1] == pre.shape[-1]:
        norm[..., -1] = torch.inf
    last = (norm - target[..., None]).abs().argmin(-1, keepdim=True)
    most = int(last.max()) + 1
    return places[..., :most], torch.arange(most, device=pre.device) <= last
