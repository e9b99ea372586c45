"""Weights that take raw rows instead of scaled ones, and whose decoder rows have norm 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from layerscope.analyses.sae.rows.scaling import Affine, inverse_of, times
from layerscope.analyses.sae.sae import SAE

EQUAL = 1e-5
"""Decoder norms that differ by less than this share count as equal."""


def fold(sae: SAE, inputs: Affine, outputs: Affine | None = None) -> SAE:
    """The SAE that does to raw rows what `sae` does to scaled ones.

    With ``x~ = x A + a`` and ``y~ = y B + b``: ``W_enc' = A W_enc``, ``b_enc' = b_enc + a W_enc``,
    ``W_dec' = W_dec B^-1``, ``b_dec' = (b_dec - b) B^-1``; where `b_dec` is subtracted from the
    input, in the same units, `b_enc` stays. Codes are the same, so thresholds, gates and k are as
    they were; reconstructions are those of `sae` in raw units.

    Args:
        sae: Trained on ``inputs(x)`` to give ``outputs(y)``.
        inputs: Units of its input.
        outputs: Units of its output; None where they are those of its input.

    Returns:
        A new SAE; it no longer subtracts `b_dec` where input and output have different units.

    Raises:
        ValueError: "afa" with dimensions scaled differently: its number of latents is decided by
            norms, which such a scale does not keep.
    """
    to = inputs if outputs is None else outputs
    same = outputs is None or _equal(inputs, outputs)
    keeps = sae.subtract_b_dec and same and sae.W_skip is None
    if sae.activation == "afa" and not (keeps and inputs.one_factor):
        raise ValueError(
            "afa decides by the norm of x - b_dec how many latents are active; it can be folded "
            "with one factor for all dimensions, equal for input and output, not with "
            f"scale {list(inputs.scale.shape)} and subtract_b_dec={sae.subtract_b_dec}"
        )
    tensors = _tensors(sae)
    before, after = inputs.scale.to(tensors["b_dec"]), inverse_of(to.scale).to(tensors["b_dec"])
    shift = times(inputs.centre.to(after), before)
    if not keeps:
        # The scaled input starts at x A - (centre A), from which b_dec may be subtracted besides.
        away = shift + tensors["b_dec"] if sae.subtract_b_dec else shift
        lost = away @ _wide(tensors["W_enc"])
        tensors["b_enc"] = tensors["b_enc"] - lost
        if "b_mag" in tensors:  # its magnitudes do not see the gate's bias
            tensors["b_mag"] = tensors["b_mag"] - tensors["r_mag"].exp() * lost
    if sae.W_skip is not None:
        tensors["b_dec"] = tensors["b_dec"] - shift @ _wide(tensors["W_skip"])
        tensors["W_skip"] = _right(_left(before, tensors["W_skip"]), after)
    dtype = sae.W_enc.dtype
    tensors["W_enc"] = _left(before, tensors["W_enc"]).to(dtype)
    tensors["W_dec"] = _right(tensors["W_dec"], after).to(dtype)
    tensors["b_dec"] = times(tensors["b_dec"], after) + to.centre.to(after)
    return _with(sae, tensors, subtract_b_dec=keeps)


def fold_decoder_norms(sae: SAE, *, ranked_by_norm: bool = False) -> SAE:
    """The same SAE with decoder rows of norm 1; codes are multiplied by the norms they had.

    ``W_enc``, ``b_enc``, `threshold` and `b_mag` are multiplied by the norm of their latent,
    `W_dec` is divided by it; `r_mag` stays. Rows of norm 0 stay.

    Args:
        ranked_by_norm: Of a TopK: that the k latents were chosen by code times norm, as SAELens
            does in training (`rescale_acts_by_decoder_norm`), so that the folded SAE chooses the
            same ones.

    Raises:
        ValueError: a TopK that chooses by the codes alone, with norms that differ: folding would
            change which latents are active.
    """
    tensors = _tensors(sae)
    norms = torch.linalg.vector_norm(sae.W_dec, dim=1, dtype=tensors["b_dec"].dtype)
    norms = torch.where(norms > 0, norms, torch.ones_like(norms))
    low, high = float(norms.min()), float(norms.max())
    if sae.activation == "topk" and not ranked_by_norm and high - low > EQUAL * high:
        raise ValueError(
            f"{sae!r} chooses its latents by their codes, and decoder norms go from {low:.4g} to "
            f"{high:.4g}: with norms folded in it would choose others. Leave the norms, or pass "
            "ranked_by_norm=True if it was trained to choose by code times norm"
        )
    tensors["W_dec"] = (tensors["W_dec"] / norms[:, None]).to(sae.W_dec.dtype)
    tensors["W_enc"] = (tensors["W_enc"] * norms).to(sae.W_enc.dtype)
    for name in ("b_enc", "threshold", "b_mag"):
        if name in tensors:
            tensors[name] = tensors[name] * norms
    return _with(sae, tensors, subtract_b_dec=sae.subtract_b_dec)


def _wide(tensor: Tensor) -> Tensor:
    """In float64, where the device has it: folding must not cost digits."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def _tensors(sae: SAE) -> dict[str, Tensor]:
    """Its vectors in float64; its matrices as they are, to be widened one at a time."""
    found = {name: tensor.detach() for name, tensor in sae.named_parameters()}
    return {name: _wide(x) if x.ndim == 1 else x for name, x in found.items()}


def _with(sae: SAE, tensors: dict[str, Tensor], *, subtract_b_dec: bool) -> SAE:
    dtype = sae.W_enc.dtype
    given: dict[str, Any] = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    folded = SAE(
        **given,
        activation=sae.activation,
        k=sae.k,
        subtract_b_dec=subtract_b_dec,
        normalise=sae.normalise,
        parts=sae.parts,
        about=sae.about,
    )
    folded.statistics, folded.history = sae.statistics, sae.history
    return folded


def _left(scale: Tensor, matrix: Tensor) -> Tensor:
    """A scale from the left, ``A W``, as wide as the scale."""
    return scale @ _wide(matrix) if scale.ndim == 2 else scale.view(-1, 1) * matrix


def _right(matrix: Tensor, scale: Tensor) -> Tensor:
    """A scale from the right, ``W A``, as wide as the scale."""
    # A view, for a number without dimensions would not widen the product.
    return _wide(matrix) @ scale if scale.ndim == 2 else matrix * scale.view(-1)


def _equal(one: Affine, other: Affine) -> bool:
    return (
        one.scale.shape == other.scale.shape
        and torch.equal(one.scale.cpu(), other.scale.cpu())
        and torch.equal(one.centre.cpu(), other.centre.cpu())
    )
