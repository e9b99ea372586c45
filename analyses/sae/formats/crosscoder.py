"""Crosscoders of the dictionary_learning fork of J. Minder: one PyTorch or safetensors file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from layerscope.analyses.sae.formats.tensors import Tensors, open_tensors
from layerscope.analyses.sae.rows.folding import fold
from layerscope.analyses.sae.rows.scaling import Affine
from layerscope.analyses.sae.sae import SAE

NORMALISATIONS = {1: "crosscoder", 2: "sae", 3: "mixed", 4: "none", 5: "decoupled"}
"""`code_normalization_id` -> how the norms of a latent's decoders are put together."""

_ALPHA = {"sae": 1.0, "crosscoder": 0.1}
"""Weights of "mixed" where nothing says otherwise: the file does not hold them."""


def read(path: Path) -> SAE:
    """A crosscoder over L sites as an SAE over their vectors side by side (`parts`).

    Codes are those of its `encode`, not multiplied by norms. One with a threshold (BatchTopK)
    compares code times norm with it, so each latent's threshold is divided by its norm. The
    normalisation of the activations, where it was trained with one, is folded in.

    Raises:
        FileNotFoundError, ValueError: a key is missing or has another shape, or each site has a
            threshold of its own ("decoupled"); names file and key.
    """
    tensors = open_tensors(path)
    encoder = tensors.take("encoder.weight", "sites", "width", "latents")
    decoder = tensors.take("decoder.weight", "sites", "latents", "width")
    b_dec = tensors.take("decoder.bias", "sites", "width")
    sites, width, latents = encoder.shape
    normalisation = _normalisation(tensors)
    threshold = _threshold(tensors, decoder, normalisation)
    sae = SAE(
        encoder.reshape(sites * width, latents),
        tensors.take("encoder.bias", "latents"),
        decoder.transpose(0, 1).reshape(latents, sites * width),
        b_dec.reshape(-1),
        activation="relu" if threshold is None else "jumprelu",
        threshold=threshold,
        subtract_b_dec=False,
        parts=(width,) * sites,
        about={
            "format": "crosscoder",
            "architecture": "crosscoder",
            "code_normalisation": normalisation,
        },
    )
    units = _units(tensors)
    return sae if units is None else fold(sae, *units)


def fits(tensors: Tensors) -> bool:
    weight = tensors.values.get("encoder.weight")
    return isinstance(weight, Tensor) and weight.ndim == 3


def _normalisation(tensors: Tensors) -> str:
    if "code_normalization_id" not in tensors:
        return "crosscoder"
    number = int(tensors.number("code_normalization_id"))
    if number not in NORMALISATIONS:
        raise ValueError(f"{tensors.path}: 'code_normalization_id' is {number}, unknown")
    return NORMALISATIONS[number]


def _threshold(tensors: Tensors, decoder: Tensor, normalisation: str) -> Tensor | None:
    if "threshold" not in tensors:
        return None
    if normalisation == "decoupled":
        raise ValueError(
            f"{tensors.path}: a decoupled crosscoder has a threshold and codes for each site, "
            "which one SAE cannot hold"
        )
    norms = _norms(decoder, normalisation)
    least = max(tensors.number("threshold"), 0.0)
    return torch.where(norms > 0, least / norms, torch.inf if least > 0 else 0.0)


def _norms(decoder: Tensor, normalisation: str) -> Tensor:
    """One number for each latent, from its decoders [sites, latents, width]."""
    whole: Tensor = decoder.norm(dim=(0, 2))
    summed: Tensor = decoder.norm(dim=2).sum(0)
    if normalisation == "mixed":
        return _ALPHA["sae"] * whole + _ALPHA["crosscoder"] * summed
    return {"sae": whole, "crosscoder": summed, "none": torch.ones_like(whole)}[normalisation]


def _units(tensors: Tensors) -> tuple[Affine, Affine] | None:
    """The maps of input and output, or None where activations were used as they are.

    `take` refuses NaN, and NaN is how the library says that there is none.
    """
    mean = tensors.values.get("activation_mean")
    deviation = tensors.values.get("activation_std")
    if mean is None or deviation is None or mean.isnan().any() or deviation.isnan().any():
        return None
    mean = tensors.take("activation_mean", "sites", "width")
    scale = _scale(tensors).double()[:, None].expand_as(mean).reshape(-1)
    centre = mean.double().reshape(-1)
    # Their way back divides by the scale plus 1e-8.
    return Affine(centre, scale), Affine(centre, scale + 1e-8)


def _scale(tensors: Tensors) -> Tensor:
    """One factor for each site, which keeps the dimensions' relative variance."""
    stored = tensors.maybe("activation_global_scale", "sites")
    if stored is not None:
        return stored.double()
    deviation = tensors.take("activation_std", "sites", "width").double()
    target = tensors.number("target_rms") if "target_rms" in tensors else 1.0
    total: Tensor = deviation.square().sum(1) + 1e-8
    return target * total.rsqrt()
