"""Gemma Scope (``params.npz``) and Gemma Scope 2 (``params.safetensors``): JumpReLU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from layerscope.analyses.sae.formats.names import site_of_point
from layerscope.analyses.sae.formats.tensors import Tensors, open_tensors, read_json
from layerscope.analyses.sae.sae import SAE

_PLACES = {
    "transcoder": "",
    "resid_post": "resid_post",
    "mlp_out": "mlp_out",
    "attn_out": "z",
    "-res": "resid_post",
    "-mlp": "mlp_out",
    "-att": "z",
}
"""Part of a published folder's or repository's name -> part of the block (its heads side by side
for attention); a transcoder's input has no site."""


def read(path: Path) -> SAE:
    """Codes are ``relu(pre)`` where ``pre = x W_enc + b_enc`` exceeds the latent's threshold.

    Args:
        path: ``params.npz`` or ``params.safetensors`` (keys in any case).

    Raises:
        FileNotFoundError, ValueError: a key is missing or has another shape; names file and key.
    """
    found = open_tensors(path)
    tensors = Tensors(path, {_canonical(key): value for key, value in found.values.items()})
    about, square = _about(path)
    threshold = tensors.take("threshold", "latents")
    encoder = tensors.take("W_enc", "d_in", "latents")
    return SAE(
        encoder,
        tensors.take("b_enc", "latents"),
        tensors.take("W_dec", "latents", "d_in" if square else "d_out"),
        tensors.take("b_dec", "d_in" if square else "d_out"),
        activation="jumprelu",
        threshold=threshold.clamp(min=0),
        W_skip=tensors.maybe("affine_skip_connection", "d_in", "d_out"),
        subtract_b_dec=False,
        about=about,
    )


def _canonical(key: str) -> str:
    return "W_" + key[2:] if key.startswith("w_") else key


def _about(path: Path) -> tuple[dict[str, Any], bool]:
    """What is known of its origin, and whether it reconstructs what it reads."""
    about: dict[str, Any] = {"format": "gemma_scope", "architecture": "jumprelu"}
    name = "/".join(path.absolute().parts[:-1])
    config = path.with_name("config.json")
    known = read_json(config) if config.is_file() else {}
    if "model_name" in known:
        about["model"] = known["model_name"]
    if site := known.get("hf_hook_point_in"):
        about["site"] = site_of_point(site)
        target = known.get("hf_hook_point_out") or site
        about["target"] = site_of_point(target)
        return about, target == site
    layer = re.findall(r"layer_(\d+)", name)
    place = next((_PLACES[part] for part in _PLACES if part in name), "")
    if layer and place:
        about["site"] = f"blocks.{layer[-1]}.{place}"
    return about, "transcoder" not in name
