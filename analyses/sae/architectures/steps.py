"""Straight-through estimators: steps whose gradient is that of a narrow ramp around the threshold.

With K = 1 within half a bandwidth e of the threshold t and 0 elsewhere (Rajamanoharan et al. 2024,
arXiv 2407.14435), all of it at the *pre-activations*; read off the codes, the half below t would
be lost:

    d jumprelu / dt = -(t / e) K      d jumprelu / dpre = 1[pre > t]   (+ (t / e) K)
    d step / dt     = -(1 / e) K      d step / dpre     = 0            (+ (1 / e) K)

The brackets hold with `to_input` (Anthropic, January 2025), where latents feel their threshold too.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function


def jumprelu(
    pre: Tensor, threshold: Tensor, bandwidth: Tensor | float, to_input: bool = False
) -> Tensor:
    """Pre-activations above their threshold, unchanged; zero elsewhere.

    Args:
        pre: [..., rows, latents].
        threshold: [..., latents], at least 0.
        bandwidth: e, a number or [..., 1, 1].
        to_input: Whether the ramp's gradient reaches `pre` as well.
    """
    codes: Tensor = _JumpReLU.apply(pre, threshold, bandwidth, to_input)  # type: ignore[no-untyped-call]
    return codes


def count_above(
    pre: Tensor, threshold: Tensor, bandwidth: Tensor | float, to_input: bool = False
) -> Tensor:
    """How many latents of a row are above their threshold, [..., rows]: the row's L0.

    Arguments as in `jumprelu`. Nothing of the size of `pre` is kept but `pre` itself.
    """
    count: Tensor = _CountAbove.apply(pre, threshold, bandwidth, to_input)  # type: ignore[no-untyped-call]
    return count


def _near(pre: Tensor, threshold: Tensor, bandwidth: Tensor | float) -> Tensor:
    return (pre - threshold[..., None, :]).abs() < bandwidth / 2


class _JumpReLU(Function):
    @staticmethod
    def forward(
        ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: Tensor | float, to_input: bool
    ) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth, ctx.to_input = bandwidth, to_input
        return pre * (pre > threshold[..., None, :])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pre, threshold = ctx.saved_tensors
        height = threshold[..., None, :] / ctx.bandwidth
        ramp = gradient * _near(pre, threshold, ctx.bandwidth) * height
        of_pre = gradient * (pre > threshold[..., None, :])
        return of_pre + ramp if ctx.to_input else of_pre, -ramp.sum(-2), None, None


class _CountAbove(Function):
    @staticmethod
    def forward(
        ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: Tensor | float, to_input: bool
    ) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth, ctx.to_input = bandwidth, to_input
        return (pre > threshold[..., None, :]).sum(-1).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        pre, threshold = ctx.saved_tensors
        near = _near(pre, threshold, ctx.bandwidth).to(gradient.dtype)
        ramp = gradient[..., None] * near / ctx.bandwidth
        return ramp if ctx.to_input else None, -ramp.sum(-2), None, None
