"""What makes pre-activations sparse: plain functions of [..., latents], without training's tricks."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ("relu", "topk", "jumprelu", "gated", "afa")


def topk(pre: Tensor, k: int) -> Tensor:
    """The k largest of the last dimension, where positive; zero elsewhere."""
    values, places = pre.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(pre).scatter_(-1, places, values.relu())


def jumprelu(pre: Tensor, threshold: Tensor) -> Tensor:
    """Whatever lies above its latent's threshold [latents], unchanged."""
    return pre * (pre > threshold)


def gated(pre: Tensor, b_enc: Tensor, r_mag: Tensor, b_mag: Tensor) -> Tensor:
    """One product serves both paths: the gate's pre-activation, scaled and shifted, is the magnitude.

    ``pre`` holds the gate's bias `b_enc`; ``mag = e^r_mag (pre - b_enc) + b_mag`` (Rajamanoharan et
    al. 2024, arXiv 2404.16014, with its tied weights).
    """
    return (r_mag.exp() * (pre - b_enc) + b_mag).relu() * (pre > 0)


def afa(pre: Tensor, norms: Tensor, target: Tensor) -> Tensor:
    """As many of the largest as bring the norm of the codes nearest to `target`.

    Args:
        pre: [..., latents].
        norms: Of the decoder's rows, [latents].
        target: Norm to reach, [...]: that of the centred input.

    The number m of latents kept minimises ``| sqrt(sum of the m largest (a_i n_i)^2) - target |``
    (Lee et al. 2025, arXiv 2503.24277); it never keeps all of them, as in the authors' code.
    """
    active = pre.relu()
    ordered, order = (active * norms).sort(dim=-1, descending=True)
    reached = ordered.square().cumsum(-1).sqrt()
    reached[..., -1] = torch.inf
    kept = (reached - target[..., None]).abs().argmin(-1, keepdim=True)
    rank = torch.arange(pre.shape[-1], device=pre.device)
    keep = torch.zeros_like(pre, dtype=torch.bool).scatter_(-1, order, rank <= kept)
    return active * keep
