"""Checkpoints of openai/sparse_autoencoder: one PyTorch file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from layerscope.analyses.sae.formats.tensors import Tensors, open_tensors
from layerscope.analyses.sae.sae import SAE

_PLACES = {
    "resid_post_mlp": "resid_post",
    "resid_post_attn": "resid_mid",
    "resid_delta_mlp": "mlp_out",
    "resid_delta_attn": "attn_out",
}
"""Folder in OpenAI's published tree -> part of the block."""


def read(path: Path) -> SAE:
    """An autoencoder of Gao et al. 2024 (arXiv 2406.04093).

    As in their code, a TopK one standardises each row first (mean 0, sd 1) and undoes it.

    Raises:
        FileNotFoundError, ValueError: a key is missing, has another shape, or the activation is
            not ReLU or TopK with ReLU; names file and key.
    """
    tensors = open_tensors(path)
    encoder = tensors.take("encoder.weight", "latents", "d_in")
    activation, k = _activation(tensors)
    return SAE(
        encoder.T.contiguous(),
        tensors.take("latent_bias", "latents"),
        _decoder(tensors).contiguous(),
        tensors.take("pre_bias", "d_in"),
        activation=activation,
        k=k,
        normalise="layer_norm" if activation == "topk" else "none",
        about=_about(path, activation),
    )


def _decoder(tensors: Tensors) -> Any:
    if "decoder.linear.weight" in tensors:  # tied: the encoder once more, under another name
        return tensors.take("decoder.linear.weight", "latents", "d_in")
    return tensors.take("decoder.weight", "d_in", "latents").T


def _activation(tensors: Tensors) -> tuple[str, int | None]:
    name = tensors.values.get("activation", "ReLU")
    if name == "ReLU":
        return "relu", None
    if name != "TopK":
        raise ValueError(f"{tensors.path}: 'activation' is {name!r}; ReLU and TopK can be read")
    state = tensors.required("activation_state_dict")
    if "k" not in state:
        raise ValueError(f"{tensors.path}: no key 'k' in 'activation_state_dict'")
    if state.get("postact_fn", "ReLU") != "ReLU":
        raise ValueError(
            f"{tensors.path}: 'postact_fn' is {state['postact_fn']!r}; codes could be negative"
        )
    return "topk", int(state["k"])


def _about(path: Path, activation: str) -> dict[str, Any]:
    about: dict[str, Any] = {"format": "openai", "architecture": activation}
    place = next((_PLACES[part] for part in path.parts if part in _PLACES), None)
    layer = re.fullmatch(r"(\d+)", path.stem)
    if place and layer:
        about["site"] = f"blocks.{layer[1]}.{place}"
    return about
