"""What every architecture says about itself; the trainer knows nothing else of them.

Several SAEs train together: every tensor of the training has a leading dimension [group]. SAEs of
one group never meet in a formula, so that training them together equals training them apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from layerscope.analyses.sae.sae import SAE


@dataclass
class Weights:
    """What is trained, float32 leaves. Rows of `encoder` and of `decoder` belong to latents."""

    encoder: Tensor
    """[group, latents, d_in]; its transpose is the W_enc of an `SAE`."""
    b_enc: Tensor
    """[group, latents]"""
    decoder: Tensor
    """[group, latents, d_out]"""
    b_dec: Tensor
    """[group, d_out]"""
    extra: dict[str, Tensor] = field(default_factory=dict)
    """What only this architecture has, each [group, ...]."""

    def named(self) -> dict[str, Tensor]:
        main = ("encoder", "b_enc", "decoder", "b_dec")
        return {name: getattr(self, name) for name in main} | self.extra


@dataclass
class Moment:
    """What a loss may ask about the moment of training."""

    dead: Tensor
    """[group, latents] bool: silent for longer than the window."""
    most_dead: int
    """Dead latents of the SAE that has most of them."""
    threshold: Tensor
    """[group] float64, smoothed smallest active code (BatchTopK); a loss may write into it."""
    steps: int = 0
    """Batches seen."""
    warm: float = 1.0
    """0 to 1 while the sparsity penalty is warmed up."""
    _wide: Tensor | None = field(default=None, repr=False)

    def wide(self, count: int, like: Tensor) -> Tensor | None:
        """Memory for `count` float32 numbers, the same at each call; None where that gains nothing.

        Fresh memory of this size comes from the system page by page: a fifth of a step on a CPU.
        """
        if like.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return None
        if self._wide is None or len(self._wide) != count:
            self._wide = torch.empty(count)
        return self._wide


@dataclass
class Loss:
    """One batch seen by each SAE of the group."""

    total: Tensor
    """[group], what is differentiated."""
    error: Tensor
    """[group], mean over rows of the squared norm of y - y_hat."""
    l0: Tensor
    """[group], mean number of non-zero codes per row."""
    active: Tensor
    """[group, latents] bool: non-zero at some row of the batch."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Other terms of the total, weighted, each [group]; shown in the history."""


@dataclass(frozen=True, kw_only=True)
class Architecture(ABC):
    """How codes come about and what is minimised.

    Its fields are its options; where a sweep makes sense they hold one value for each SAE of the
    group (``k: tuple[int, ...]``).
    """

    name: ClassVar[str]
    unit_decoder: ClassVar[bool] = True
    """Whether decoder rows are held at norm 1 (projected gradient, then renormalised)."""
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    """Of Adam."""
    swept: ClassVar[tuple[str, ...]] = ()
    """Options that hold one value for each SAE of the group, or one for all."""

    subtract_b_dec: bool = True
    """Whether the encoder sees x - b_dec."""

    def initial(
        self, latents: int, d_in: int, d_out: int, generators: Sequence[torch.Generator]
    ) -> Weights:
        """The four tensors at their start, one SAE for each generator, on the CPU.

        Decoder rows have random directions, norm 1 (0.1 where nothing holds the norm); the encoder
        starts as the decoder's transpose where both have one width, with rows of norm 1 of its own
        otherwise; biases are 0, because the rows come centred.
        """
        decoder = _directions(latents, d_out, generators) * (1.0 if self.unit_decoder else 0.1)
        tied = d_in == d_out
        encoder = decoder.clone() if tied else _directions(latents, d_in, generators)
        group = len(generators)
        return Weights(encoder, torch.zeros(group, latents), decoder, torch.zeros(group, d_out))

    def extra(self, weights: Weights, x: Tensor) -> dict[str, Tensor]:
        """Parameters beyond the four, at their start.

        Args:
            weights: The four, as they start.
            x: Some rows, [1 or group, rows, d_in], from which scales may be taken.
        """
        return {}

    @abstractmethod
    def loss(self, weights: Weights, x: Tensor, y: Tensor, moment: Moment) -> Loss:
        """What this architecture minimises.

        Args:
            weights: Of the whole group.
            x: Rows, [group, batch, d_in], or [1, batch, d_in] where all see the same.
            y: What is to be reconstructed, [group or 1, batch, d_out]; `x` itself for an SAE.
            moment: Dead latents, step, threshold.
        """

    def copies(self, latents: int, device: torch.device) -> tuple[float, float]:
        """Float32 tensors of batch x latents alive at the peak of a forward and a backward pass."""
        return (4, 4)

    @torch.no_grad()
    def after_step(self, weights: Weights) -> None:
        """Constraints beyond the decoder's norm, such as thresholds that stay positive."""
        return

    @abstractmethod
    def in_use(self, weights: Weights, member: int, moment: Moment) -> dict[str, Any]:
        """What `SAE` has to be told of number `member` beyond the four tensors: activation, k..."""

    def export(self, weights: Weights, member: int, moment: Moment) -> SAE:
        """SAE number `member` of the group as it is used, in the trainer's scaled units."""
        return SAE(
            weights.encoder[member].T,
            weights.b_enc[member],
            weights.decoder[member],
            weights.b_dec[member],
            subtract_b_dec=self.subtract_b_dec,
            **self.in_use(weights, member, moment),
        )


def _directions(latents: int, width: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Random rows of norm 1, [group, latents, width]; each SAE's from its own generator."""
    drawn = torch.stack([torch.randn(latents, width, generator=each) for each in generators])
    return drawn.div_(torch.linalg.vector_norm(drawn, dim=-1, keepdim=True))
