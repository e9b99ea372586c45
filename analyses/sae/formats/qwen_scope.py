"""Qwen-Scope: ``layer<N>.sae.pt``, TopK autoencoders of residual streams."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from layerscope.analyses.sae.formats.tensors import open_tensors
from layerscope.analyses.sae.sae import SAE

_K = re.compile(r"L0_(\d+)")


def read(path: Path, k: int | None = None) -> SAE:
    """Encoder and decoder are stored as in `torch.nn.Linear`: [latents, width] and [width, latents].

    Args:
        path: The file of one layer.
        k: Latents kept per row; None reads it from ``L0_<k>`` in a folder's name, where Qwen
            publishes it.

    Raises:
        FileNotFoundError, ValueError: a key is missing, has another shape, or k is nowhere.
    """
    tensors = open_tensors(path)
    encoder = tensors.take("W_enc", "latents", "d_in")
    decoder = tensors.take("W_dec", "d_in", "latents")
    return SAE(
        encoder.T.contiguous(),
        tensors.take("b_enc", "latents"),
        decoder.T.contiguous(),
        tensors.take("b_dec", "d_in"),
        activation="topk",
        k=_k(path) if k is None else k,
        subtract_b_dec=False,
        about=_about(path),
    )


def _k(path: Path) -> int:
    for part in reversed(path.absolute().parts):
        if found := _K.search(part):
            return int(found[1])
    raise ValueError(f"{path} does not hold k, and no folder above it is called ...L0_<k>; pass k=")


def _about(path: Path) -> dict[str, Any]:
    about: dict[str, Any] = {"format": "qwen_scope", "architecture": "topk"}
    if layer := re.fullmatch(r"layer(\d+)\.sae\.pt", path.name):
        about["site"] = f"blocks.{layer[1]}.resid_post"
    return about
