"""The final norm with its scale held fixed: then logits are sums over what was added to the stream.

A norm divides by a length that depends on the whole vector, so parts of the vector have no logits of
their own. With the length of the whole vector put in as a constant, the norm is affine, and the
logits of parts add up to those of the whole (direct logit attribution).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.places import module_at
from layerscope.hooks.unembed import Unembed

LARGE = 1e4
"""Size of the vectors that show a norm's gain: its epsilon is nothing beside them."""
TOLERANCE = 1e-3


class FrozenHead:
    """Logits of parts of residual streams, under the norm scale of the whole ones.

    Args:
        model: A model with an unembedding.
        stream: `[n, d]` what enters the final norm; each row's own scale is kept.

    Raises:
        ValueError: the final norm is no rescaling of the (centred) stream, or the logits are no
            linear function of what it gives, as under a soft cap.
    """

    def __init__(self, model: nn.Module, stream: Tensor) -> None:
        self._model, self._decode = model, Unembed(model)
        with torch.no_grad():
            self._shift, self._gain, self._centred = _affine(self._decode.norm, stream)
            self._scale = self._fitted(stream)
            self.constant = self._frozen(torch.zeros_like(stream))
            """`[n, V]` what the head says of nothing: biases."""
            self._require_sums(stream)

    @torch.no_grad()
    def __call__(self, part: Tensor) -> Tensor:
        """`[n, V]` the logits that a part `[n, d]` of the streams adds."""
        return self._frozen(part) - self.constant

    def _frozen(self, part: Tensor) -> Tensor:
        normed = (self._shaped(part) * self._scale + self._shift).to(part.dtype)
        path = anatomy(self._model).norm
        if path is None:
            return self._decode(normed)
        # The head then reads what it is given as if the norm had made it.
        module = module_at(self._model, path)
        hook = module.register_forward_hook(lambda module, args, output: args[0])
        try:
            return self._decode(normed)
        finally:
            hook.remove()

    def _shaped(self, x: Tensor) -> Tensor:
        wide = x.to(self._gain.dtype)
        if self._centred:
            wide = wide - wide.mean(-1, keepdim=True)
        return wide * self._gain

    def _fitted(self, stream: Tensor) -> Tensor:
        """`[n, 1]` the scale of each row."""
        shaped, got = (
            self._shaped(stream),
            self._decode.norm(stream).to(self._gain.dtype) - self._shift,
        )
        scale = (shaped * got).sum(-1, keepdim=True) / shaped.square().sum(-1, keepdim=True)
        if float((shaped * scale - got).norm()) > TOLERANCE * float(got.norm()):
            raise ValueError(
                f"the final norm of {type(self._model).__name__} does more than rescale the stream, "
                "so logits cannot be told apart by what added to it"
            )
        return scale

    def _require_sums(self, stream: Tensor) -> None:
        whole = self._decode(stream)
        halves = 2 * self(stream / 2) + self.constant
        if not torch.allclose(
            halves, whole, rtol=TOLERANCE, atol=TOLERANCE * float(whole.abs().max())
        ):
            raise ValueError(
                f"the logits of {type(self._model).__name__} are no linear function of the normed "
                "stream (a soft cap?), so what was added has no logits that sum up"
            )


def _affine(norm: Any, stream: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Bias `[d]`, gain `[d]` and whether the mean is taken off: `norm(x) = scale(x) * gain * x + bias`."""
    wide = torch.promote_types(stream.dtype, torch.float32)
    width = stream.shape[-1]
    probe = torch.full((width,), LARGE, device=stream.device, dtype=stream.dtype)
    probe[1::2] *= -1
    if width % 2:
        probe[-1] = 0.0
    other = probe.roll(1)
    shift = norm(torch.zeros_like(stream[:1]))[0].to(wide)
    gains = [
        (norm(x[None])[0].to(wide) - shift) / torch.where(x == 0, 1.0, x).to(wide)
        for x in (probe, other)
    ]
    gain = torch.where(probe == 0, gains[1], gains[0]) * LARGE
    moved = norm((probe + LARGE)[None])[0].to(wide)
    centred = torch.allclose(
        moved, norm(probe[None])[0].to(wide), rtol=1e-2, atol=1e-2 * float(gain.abs().max())
    )
    return shift, gain, centred
