"""Folders of EleutherAI/sparsify: ``<run>/<hookpoint>/{cfg.json, sae.safetensors}``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layerscope.analyses.sae.formats.names import site_of_module
from layerscope.analyses.sae.formats.tensors import Tensors, open_tensors, read_json, setting
from layerscope.analyses.sae.sae import SAE

CONFIG, WEIGHTS, RUN = "cfg.json", "sae.safetensors", "config.json"

_REFUSED = {
    "signed": "keeps negative codes",
    "embed_skip": "needs the embeddings beside the activations",
    "gram_lookup": "needs a table of n-gram means beside the activations",
}


def read(folder: Path) -> SAE:
    """A sparse coder or (skip) transcoder of sparsify 1.x.

    ``W_dec`` is [latents, width] as it lies there; ``num_latents: 0`` means
    ``expansion_factor * d_in``. All but transcoders subtract b_dec from their input.

    Raises:
        FileNotFoundError, ValueError: a file or key is missing, has another shape, or the
            activation is one that `SAE` has not (groupmax, signed TopK); names file and key.
    """
    config = read_json(folder / CONFIG)
    _refuse(config, folder / CONFIG)
    tensors = open_tensors(folder / WEIGHTS)
    encoder = tensors.take("encoder.weight", "latents", "d_in")
    _check_width(config, tensors, folder / CONFIG)
    skip = tensors.maybe("W_skip", "d_out", "d_in")
    transcodes = bool(config.get("transcode", False))
    return SAE(
        encoder.T.contiguous(),
        tensors.take("encoder.bias", "latents"),
        tensors.take("W_dec", "latents", "d_out"),
        tensors.take("b_dec", "d_out"),
        activation="topk",
        k=int(setting(config, "k", folder / CONFIG)),
        W_skip=None if skip is None else skip.T.contiguous(),
        subtract_b_dec=not transcodes,
        about=_about(folder, config, transcodes),
    )


def _refuse(config: dict[str, Any], path: Path) -> None:
    if (activation := config.get("activation", "topk")) != "topk":
        raise ValueError(f"{path}: activation {activation!r} of sparsify; only topk can be read")
    for key, why in _REFUSED.items():
        if config.get(key):
            raise ValueError(f"{path}: {key!r} is set, which {why}; that cannot be read")


def _check_width(config: dict[str, Any], tensors: Tensors, path: Path) -> None:
    latents, width = tensors.sizes["latents"][0], tensors.sizes["d_in"][0]
    factor = config.get("expansion_factor")
    told = config.get("num_latents") or (factor and factor * width)
    if told and told != latents:
        raise ValueError(
            f"{tensors.path}: 'encoder.weight' has {latents:,} latents, {path.name} says {told:,}"
        )


def _about(folder: Path, config: dict[str, Any], transcodes: bool) -> dict[str, Any]:
    run = folder.parent / RUN
    trained = read_json(run) if run.is_file() else {}
    about = {"format": "sparsify", "hookpoint": folder.name, "architecture": "topk"}
    about |= {"model": trained.get("model", ""), "data": trained.get("dataset", "")}
    if transcodes:
        return about | {"site": f"{folder.name}:in", "target": site_of_module(folder.name)}
    return about | {"site": site_of_module(folder.name)}
