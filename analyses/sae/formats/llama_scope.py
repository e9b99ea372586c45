"""Llama Scope: ``hyperparams.json`` and ``checkpoints/final.safetensors`` of OpenMOSS."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from layerscope.analyses.sae.formats.names import site_of_hook
from layerscope.analyses.sae.formats.tensors import open_tensors, read_json, setting
from layerscope.analyses.sae.rows.folding import fold, fold_decoder_norms
from layerscope.analyses.sae.rows.scaling import Affine
from layerscope.analyses.sae.sae import SAE

CONFIG, WEIGHTS = "hyperparams.json", "checkpoints/final.safetensors"


def read(folder: Path) -> SAE:
    """A JumpReLU autoencoder or transcoder of He et al. 2024 (arXiv 2410.20526), in raw units.

    Its rows were scaled to a mean norm of ``sqrt(d)``, input and output each by its own factor c.
    The published threshold belongs to codes of raw units with decoder rows of norm 1: OpenMOSS'
    own code divides encoder bias, decoder and decoder bias by these factors, then the decoder by
    its norms, and only then compares. Codes are therefore those of SAELens' loader over c; the
    same latents are active.

    Raises:
        FileNotFoundError, ValueError: a key is missing or has another shape, or the activation or
            the normalisation is another; names file and key.
    """
    config, path = read_json(folder / CONFIG), folder / CONFIG
    _check(config, path)
    tensors = open_tensors(folder / WEIGHTS)
    encoder = tensors.take("encoder.weight", "latents", "d_in")
    decoder = tensors.take("decoder.weight", "d_out", "latents")
    biased = bool(config.get("use_decoder_bias", True))
    b_dec = tensors.take("decoder.bias", "d_out") if biased else decoder.new_zeros(len(decoder))
    threshold = float(setting(config, "jump_relu_threshold", path))
    sae = SAE(
        encoder.T.contiguous(),
        tensors.take("encoder.bias", "latents"),
        decoder.T.contiguous(),
        b_dec,
        activation="jumprelu",
        threshold=decoder.new_zeros(decoder.shape[1]),
        subtract_b_dec=bool(config.get("apply_decoder_bias_to_pre_encoder", False)),
        about=_about(config),
    )
    return _in_raw_units(sae, config, path, max(threshold, 0.0))


def _in_raw_units(sae: SAE, config: dict[str, Any], path: Path, threshold: float) -> SAE:
    norms = setting(config, "dataset_average_activation_norm", path)
    incoming = math.sqrt(sae.d_in) / float(setting(norms, "in", path))
    outgoing = math.sqrt(sae.d_out) / float(setting(norms, "out", path))
    folded = fold(sae, _scaled(sae.d_in, incoming), _scaled(sae.d_out, outgoing))
    # fold keeps the codes; those of raw units are smaller by the factor of the input.
    for name in ("W_enc", "b_enc"):
        getattr(folded, name).data.div_(incoming)
    folded.W_dec.data.mul_(incoming)
    if config.get("sparsity_include_decoder_norm", True):
        folded = fold_decoder_norms(folded)
    assert folded.threshold is not None
    folded.threshold.data.fill_(threshold)
    return folded


def _scaled(width: int, factor: float) -> Affine:
    return Affine(torch.zeros(width), torch.tensor(factor, dtype=torch.float64))


def _check(config: dict[str, Any], path: Path) -> None:
    if (activation := config.get("act_fn", "jumprelu")) != "jumprelu":
        raise ValueError(f"{path}: 'act_fn' is {activation!r}; only jumprelu can be read")
    if (kind := config.get("norm_activation", "dataset-wise")) != "dataset-wise":
        raise ValueError(f"{path}: 'norm_activation' is {kind!r}; only dataset-wise can be read")
    if config.get("use_glu_encoder"):
        raise ValueError(f"{path}: 'use_glu_encoder' is set; such an encoder cannot be read")


def _about(config: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {"format": "llama_scope", "architecture": "jumprelu"}
    if point := config.get("hook_point_in"):
        about["site"] = site_of_hook(point)
        about["target"] = site_of_hook(config.get("hook_point_out") or point)
    return about
