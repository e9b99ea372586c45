"""Checkpoints of saprmarks/dictionary_learning: ``ae.pt`` and ``config.json``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerscope.analyses.sae.formats.names import site_of_module
from layerscope.analyses.sae.formats.tensors import Tensors, open_tensors, read_json
from layerscope.analyses.sae.rows.folding import fold_decoder_norms
from layerscope.analyses.sae.sae import SAE

CONFIG, WEIGHTS = "config.json", "ae.pt"

_PLACES = {"resid": "resid_post", "mlp": "mlp_out", "att": "attn_out"}
"""What the name of a submodule begins with -> part of the block that its output is."""


def read(path: Path, dict_class: str | None = None) -> SAE:
    """A dictionary of any class of its `dictionary.py` and `trainers/`, as `from_pretrained` reads it.

    `AutoEncoder` gets decoder columns of norm 1, as there. `BatchTopKSAE` and Matryoshka ones are
    used with their threshold (JumpReLU), `AutoEncoderTopK` with k per row, whatever it stores.

    Args:
        path: The PyTorch file; ``config.json`` lies beside it, or above its folder
            ``checkpoints``.
        dict_class: Name of the class; None takes it from ``config.json``, else from the keys.

    Raises:
        FileNotFoundError, ValueError: a key is missing or has another shape, the class is not
            one of those, or the keys fit two classes and nothing says which; names file and key.
    """
    tensors = open_tensors(path)
    config = _config(path)
    trainer = config.get("trainer", {})
    name = dict_class or trainer.get("dict_class") or _class_of(tensors)
    if name not in CLASSES:
        raise ValueError(f"{path}: class {name!r}; there are {', '.join(CLASSES)}")
    sae = CLASSES[name](tensors)
    sae.about |= _about(name, trainer)
    return sae


def fits(tensors: Tensors) -> bool:
    """Whether the keys are those of one of these classes."""
    return "encoder.weight" in tensors or {"W_enc", "b_enc", "threshold"} <= set(tensors.values)


def _standard(tensors: Tensors) -> SAE:
    encoder = tensors.take("encoder.weight", "latents", "d_in")
    decoder = tensors.take("decoder.weight", "d_in", "latents")
    b_enc, bias = tensors.take("encoder.bias", "latents"), tensors.take("bias", "d_in")
    sae = SAE(encoder.T.contiguous(), b_enc, decoder.T.contiguous(), bias)
    norms = sae.W_dec.norm(dim=1)
    return sae if torch.allclose(norms, torch.ones_like(norms)) else fold_decoder_norms(sae)


def _new_standard(tensors: Tensors) -> SAE:
    encoder = tensors.take("encoder.weight", "latents", "d_in")
    decoder = tensors.take("decoder.weight", "d_in", "latents")
    b_enc, b_dec = tensors.take("encoder.bias", "latents"), tensors.take("decoder.bias", "d_in")
    return SAE(encoder.T.contiguous(), b_enc, decoder.T.contiguous(), b_dec, subtract_b_dec=False)


def _topk(tensors: Tensors) -> SAE:
    return SAE(*_linear(tensors), activation="topk", k=int(tensors.number("k")))


def _batch_topk(tensors: Tensors) -> SAE:
    weights = _linear(tensors)
    return SAE(*weights, activation="jumprelu", threshold=_one_threshold(tensors, weights[1]))


def _matryoshka(tensors: Tensors) -> SAE:
    weights = _plain(tensors)
    threshold = _one_threshold(tensors, weights[1])
    sae = SAE(*weights, activation="jumprelu", threshold=threshold)
    sae.about["group_sizes"] = [int(size) for size in tensors.take("group_sizes", "groups")]
    return sae


def _jumprelu(tensors: Tensors) -> SAE:
    weights, threshold = _plain(tensors), tensors.take("threshold", "latents")
    return SAE(
        *weights, activation="jumprelu", threshold=threshold.clamp(min=0), subtract_b_dec=False
    )


def _gated(tensors: Tensors) -> SAE:
    encoder = tensors.take("encoder.weight", "latents", "d_in")
    decoder = tensors.take("decoder.weight", "d_in", "latents")
    return SAE(
        encoder.T.contiguous(),
        tensors.take("gate_bias", "latents"),
        decoder.T.contiguous(),
        tensors.take("decoder_bias", "d_in"),
        activation="gated",
        r_mag=tensors.take("r_mag", "latents"),
        b_mag=tensors.take("mag_bias", "latents"),
    )


CLASSES: dict[str, Callable[[Tensors], SAE]] = {
    "AutoEncoder": _standard,
    "AutoEncoderNew": _new_standard,
    "GatedAutoEncoder": _gated,
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk,
    "MatryoshkaBatchTopKSAE": _matryoshka,
    "JumpReluAutoEncoder": _jumprelu,
}
"""Class of the library -> how its entries are read."""


def _linear(tensors: Tensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights as in `torch.nn.Linear`, with b_dec apart."""
    encoder = tensors.take("encoder.weight", "latents", "d_in")
    decoder = tensors.take("decoder.weight", "d_in", "latents")
    b_enc, b_dec = tensors.take("encoder.bias", "latents"), tensors.take("b_dec", "d_in")
    return encoder.T.contiguous(), b_enc, decoder.T.contiguous(), b_dec


def _plain(tensors: Tensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        tensors.take("W_enc", "d_in", "latents"),
        tensors.take("b_enc", "latents"),
        tensors.take("W_dec", "latents", "d_in"),
        tensors.take("b_dec", "d_in"),
    )


def _one_threshold(tensors: Tensors, like: Tensor) -> Tensor:
    """The same for all latents. Codes passed a relu there, so -1 (not yet trained) means 0."""
    return torch.full_like(like, max(tensors.number("threshold"), 0.0))


def _class_of(tensors: Tensors) -> str:
    keys = set(tensors.values)
    if "gate_bias" in keys:
        return "GatedAutoEncoder"
    if "group_sizes" in keys:
        return "MatryoshkaBatchTopKSAE"
    if "W_enc" in keys:
        return "JumpReluAutoEncoder"
    if "decoder.bias" in keys:
        return "AutoEncoderNew"
    if "k" in keys:
        raise ValueError(
            f"{tensors.path} may be an AutoEncoderTopK or a BatchTopKSAE: they store the same "
            f"keys, and there is no {CONFIG} that tells. Put it beside, or pass "
            'format="dictionary_learning:AutoEncoderTopK" (or ":BatchTopKSAE")'
        )
    return "AutoEncoder"


def _config(path: Path) -> dict[str, Any]:
    for folder in (path.parent, path.parent.parent):
        if (folder / CONFIG).is_file() and "trainer" in (found := read_json(folder / CONFIG)):
            return found
    return {}


def _about(name: str, trainer: dict[str, Any]) -> dict[str, Any]:
    about = {"format": "dictionary_learning", "architecture": name}
    if model := trainer.get("lm_name"):
        about["model"] = model
    if isinstance(layer := trainer.get("layer"), int):
        module = str(trainer.get("submodule_name") or "resid")
        place = next((_PLACES[start] for start in _PLACES if module.startswith(start)), None)
        about["site"] = f"blocks.{layer}.{place}" if place else site_of_module(module)
        about["submodule"] = module
    return about
