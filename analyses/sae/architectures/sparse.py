"""Exact products with the few latents that are active, forward and backward, in plain PyTorch.

Of the 10 d F operations per row that a dense step takes, the encoder's 2 d F remain; all else
takes 8 d k. Every gradient is a sum over the places where a latent is active: one stable sort
serves encoder and decoder, and gives the same bits each time. Read and written are k rows of d
numbers per row and pass, never rows x k x d.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import embedding_bag

from layerscope.analyses.sae.architectures.architecture import Weights

PAYS = {"cpu": 8, "cuda": 200}
"""Latents per active one from which sparse products win: operations against bytes per second."""


def pays(device: torch.device, latents: int, k: int) -> bool:
    """Whether sparse products are the faster ones for k of `latents` on this kind of device."""
    return latents / k > PAYS.get(device.type, 8)


class Places:
    """Which latents each row uses: ``indices`` [group, batch, k] in 0..latents-1.

    With `keep`, broadcast over `indices`, only places where it is true are touched: rows then use
    as many latents as they do, and not as many as the one that uses most.
    """

    def __init__(self, indices: Tensor, latents: int, keep: Tensor | None = None) -> None:
        self.indices = indices
        self.latents = latents
        self._keep = None if keep is None else keep.expand_as(indices)

    @cached_property
    def flat(self) -> Tensor:
        """The same as rows of the group's joint dictionary, [group * batch, k], or a list of them."""
        group, batch, _ = self.indices.shape
        small = group * max(batch, self.latents) < 2**31
        first = torch.arange(group, device=self.indices.device)[:, None, None] * self.latents
        joint = self.listed(self.indices + first)
        return joint.int() if small else joint

    @cached_property
    def starts(self) -> Tensor | None:
        """Where each row begins in the list."""
        if self._keep is None:
            return None
        counts = self._keep.sum(-1).flatten()
        return (counts.cumsum(0) - counts).to(self.flat.dtype)

    def listed(self, values: Tensor) -> Tensor:
        """Values [group, batch, k] in the form of `flat`."""
        return values.flatten(0, 1) if self._keep is None else values[self._keep]

    def spread(self, listed: Tensor) -> Tensor:
        """The reverse of `listed`, zero where nothing is kept."""
        if self._keep is None:
            return listed.view(self.indices.shape)
        spread = listed.new_zeros(self.indices.shape)
        spread[self._keep] = listed
        return spread

    @cached_property
    def _rows(self) -> Tensor:
        """The row, of group * batch, that each place in the list belongs to."""
        group, batch, k = self.indices.shape
        if self._keep is None:
            return torch.arange(group * batch, device=self.flat.device).repeat_interleave(k)
        return self._keep.reshape(group * batch, k).nonzero()[:, 0]

    @cached_property
    def _by_latent(self) -> tuple[Tensor, Tensor]:
        """The order that brings the places of one latent together, and where each latent's start."""
        keys, order = self.flat.flatten().sort(stable=True)
        latents = torch.arange(
            len(self.indices) * self.latents, device=keys.device, dtype=keys.dtype
        )
        return order, torch.searchsorted(keys, latents).to(keys.dtype)

    def summed(self, values: Tensor, rows: Tensor) -> Tensor:
        """For each latent the sum over its places of value times row, [group, latents, d].

        Args:
            values: [group, batch, k].
            rows: [group, batch, d], or [1, batch, d] where all share them.
        """
        group, batch, _ = self.indices.shape
        order, starts = self._by_latent
        place = self._rows[order]
        place = (place if len(rows) == group else place % batch).to(starts.dtype)
        sums = embedding_bag(
            place,
            rows.flatten(0, 1),
            starts,
            per_sample_weights=self.listed(values).flatten()[order],
            mode="sum",
        )
        return sums.view(group, self.latents, -1)


def codes_at(weights: Weights, x: Tensor, pre: Tensor, places: Places, subtract: bool) -> Tensor:
    """Pre-activations at `places`, [group, batch, k], with gradients of encoder, b_enc and b_dec.

    Args:
        weights: Of the group.
        x: [group or 1, batch, d_in]; gets no gradient.
        pre: What `dense.preactivations` gave, [group, batch, latents], without a graph.
        places: Where to read it.
        subtract: Whether `b_dec` was subtracted from the rows.
    """
    values: Tensor = _CodesAt.apply(  # type: ignore[no-untyped-call]
        weights.encoder, weights.b_enc, weights.b_dec, x, pre, places, subtract
    )
    return values


def decoded(values: Tensor, places: Places, decoder: Tensor) -> Tensor:
    """Sum of the decoder's rows at `places`, weighted: [group, batch, d_out], without b_dec."""
    written: Tensor = _Decoded.apply(values, decoder, places)  # type: ignore[no-untyped-call]
    return written


class _CodesAt(Function):
    @staticmethod
    def forward(
        ctx: Any,
        encoder: Tensor,
        b_enc: Tensor,
        b_dec: Tensor,
        x: Tensor,
        pre: Tensor,
        places: Places,
        subtract: bool,
    ) -> Tensor:
        ctx.save_for_backward(encoder, b_dec, x)
        ctx.places, ctx.subtract = places, subtract
        return pre.gather(-1, places.indices).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        encoder, b_dec, x = ctx.saved_tensors
        rows = x - b_dec[:, None] if ctx.subtract else x
        of_encoder = ctx.places.summed(gradient, rows)
        of_b_enc = ctx.places.summed(gradient, rows.new_ones(1, rows.shape[1], 1))[..., 0]
        of_b_dec = -torch.einsum("gf,gfd->gd", of_b_enc, encoder) if ctx.subtract else None
        return of_encoder, of_b_enc, of_b_dec, None, None, None, None


class _Decoded(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, decoder: Tensor, places: Places) -> Tensor:
        with torch.enable_grad():
            # embedding_bag has the fused product for its weights' gradient: kept for backward.
            leaf = places.listed(values.detach()).requires_grad_()
            bags = embedding_bag(
                places.flat,
                decoder.detach().flatten(0, 1),
                places.starts,
                per_sample_weights=leaf,
                mode="sum",
            )
        ctx.save_for_backward(values)
        ctx.places, ctx.leaf, ctx.bags = places, leaf, bags
        return bags.detach().view(*values.shape[:2], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (values,) = ctx.saved_tensors
        gradient = gradient.contiguous()
        # Kept, so that a caller may keep the outer graph too; it goes with ctx.
        (of_values,) = torch.autograd.grad(
            ctx.bags, ctx.leaf, gradient.flatten(0, 1), retain_graph=True
        )
        return ctx.places.spread(of_values), ctx.places.summed(values, gradient), None


class Codes:
    """A batch's codes at the latents that were selected; sparse or dense, whichever `pre` asks for.

    With a `pre` that carries a graph everything goes through dense tensors, otherwise through the
    sparse products of this file. Loss and gradients are the same up to rounding.
    """

    def __init__(
        self,
        weights: Weights,
        x: Tensor,
        pre: Tensor,
        indices: Tensor,
        subtract: bool,
        keep: Tensor | None = None,
    ) -> None:
        """Args:
        weights: Of the group.
        x: [group or 1, batch, d_in].
        pre: [group, batch, latents].
        indices: Latents selected, [group, batch, k].
        subtract: Whether `b_dec` was subtracted from the rows.
        keep: Which of them count, broadcast over [group, batch, k]; None: all that are positive.
        """
        self.places = Places(indices, pre.shape[-1], keep)
        self._dense = pre.requires_grad
        self._keep = keep
        if self._dense:
            values = pre.gather(-1, indices).float()
        else:
            values = codes_at(weights, x, pre, self.places, subtract)
        self.values = values.relu() if keep is None else values.relu() * keep
        """[group, batch, k], zero where a place does not count."""

    def decoded(self, decoder: Tensor) -> Tensor:
        """Without b_dec, [group, batch, d_out]."""
        if self._dense:
            return self._all @ decoder
        return decoded(self.values, self.places, decoder)

    def decoded_between(self, decoder: Tensor, low: int, high: int) -> Tensor:
        """What latents low, ..., high - 1 write, [group, batch, d_out]."""
        if self._dense:
            return self._all[..., low:high] @ decoder[:, low:high]
        inside = (self.places.indices >= low) & (self.places.indices < high)
        inside = inside if self._keep is None else inside & self._keep
        return decoded(
            self.values, Places(self.places.indices, self.places.latents, inside), decoder
        )

    @cached_property
    def _all(self) -> Tensor:
        """Dense, [group, batch, latents]."""
        zeros = self.values.new_zeros(*self.values.shape[:2], self.places.latents)
        return zeros.scatter_add(-1, self.places.indices, self.values)

    @torch.no_grad()
    def l0(self) -> Tensor:
        """Mean number of non-zero codes per row, [group]."""
        return (self.values > 0).sum(-1).float().mean(-1)

    @torch.no_grad()
    def active(self) -> Tensor:
        """Latents that are non-zero at some row, [group, latents] bool."""
        group = len(self.values)
        counts = self.values.new_zeros(group, self.places.latents)
        counts.scatter_add_(1, self.places.indices.flatten(1), (self.values > 0).float().flatten(1))
        return counts > 0
