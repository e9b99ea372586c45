"""Checkpoints of SewoongLee/top-afa-sae (and of the BatchTopK code it grew from): ``sae.pt``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from layerscope.analyses.sae.formats.names import site_of_hook
from layerscope.analyses.sae.formats.tensors import Tensors, open_tensors, read_json, setting
from layerscope.analyses.sae.sae import SAE

CONFIG, WEIGHTS = "config.json", "sae.pt"

_KINDS = {
    "topk": "topk",
    "batchtopk": "batchtopk",
    "topafa": "afa",
    "afa": "afa",
    "vanilla": "relu",
    "jumprelu": "jumprelu",
}


def read(folder: Path, k: int | None = None) -> SAE:
    """An autoencoder of Lee et al. 2025 (arXiv 2503.24277).

    As in their code, `b_enc` plays no part where latents are chosen (TopK, top-AFA), JumpReLU
    does not subtract `b_dec`, and ``input_unit_norm`` is a layer norm of each row.

    Args:
        folder: Holds ``sae.pt`` and ``config.json``.
        k: Read a BatchTopK one as TopK with this k. It stores no threshold, so that there is no
            other way to use it on single rows.

    Raises:
        FileNotFoundError, ValueError: a key is missing or has another shape, or it is a BatchTopK
            one and `k` is None; names file and key.
    """
    config, path = read_json(folder / CONFIG), folder / CONFIG
    kind = _kind(config, path)
    if kind == "batchtopk":
        if k is None:
            raise ValueError(
                f"{path}: a BatchTopK of this code stores no threshold, so which latents of a row "
                f"are active depends on the rows beside it. Pass k={config.get('top_k', 32)} to "
                "read it as TopK"
            )
        kind, config = "topk", config | {"top_k": k}
    tensors = open_tensors(folder / WEIGHTS)
    encoder = tensors.take("W_enc", "d_in", "latents")
    b_enc = tensors.take("b_enc", "latents")
    return SAE(
        encoder,
        b_enc if kind in ("relu", "jumprelu") else torch.zeros_like(b_enc),
        tensors.take("W_dec", "latents", "d_in"),
        tensors.take("b_dec", "d_in"),
        activation=kind,
        k=int(setting(config, "top_k", path)) if kind == "topk" else None,
        threshold=_threshold(tensors) if kind == "jumprelu" else None,
        subtract_b_dec=kind != "jumprelu",
        normalise="layer_norm" if config.get("input_unit_norm") else "none",
        about=_about(config, kind),
    )


def _threshold(tensors: Tensors) -> torch.Tensor:
    return tensors.take("jumprelu.log_threshold", "latents").exp()


def _kind(config: dict[str, Any], path: Path) -> str:
    told = str(setting(config, "sae_type", path))
    plain = told.lower().removesuffix("sae").translate({ord(sign): None for sign in "-_ "})
    if plain not in _KINDS:
        raise ValueError(f"{path}: 'sae_type' is {told!r}; there are {', '.join(_KINDS)}")
    return _KINDS[plain]


def _about(config: dict[str, Any], kind: str) -> dict[str, Any]:
    about: dict[str, Any] = {"format": "top_afa", "architecture": kind}
    if hook := config.get("hook_point"):
        about["site"] = site_of_hook(hook)
    if model := config.get("model_name"):
        about["model"] = model
    return about
