"""Folders of SAELens: ``cfg.json`` and ``sae_weights.safetensors``, written and read."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerscope.analyses.sae.formats.names import hook_of
from layerscope.analyses.sae.formats.saelens_config import (
    ACTIVATIONS,
    NORMALISERS,
    Config,
    read_config,
)
from layerscope.analyses.sae.formats.tensors import Tensors, open_tensors, read_json, setting
from layerscope.analyses.sae.rows.folding import fold, fold_decoder_norms
from layerscope.analyses.sae.rows.scaling import Affine
from layerscope.analyses.sae.sae import SAE
from layerscope.store.disk import publish

CONFIG, WEIGHTS, OURS = "cfg.json", "sae_weights.safetensors", "layerscope.json"
SCALER, WHITENING = "activation_scaler.json", "activation_whitening.safetensors"

FORMAT = 1
_LAYOUT = "6.0.0"
"""The version of SAELens whose folders these are; 6.54 reads them."""
_PLAIN = {"relu": "standard", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
_FOREIGN = "layerscope_"
"""Begins the name of an architecture that SAELens has not."""


# Writing


def write(sae: SAE, folder: Path, beside: Mapping[str, bytes | None] | None = None) -> None:
    """Write an SAE as SAELens 6 reads it; ``layerscope.json`` holds what SAELens has no key for.

    ``cfg.json`` goes first and comes last: a folder without it holds no SAE.

    Args:
        beside: Further files of the folder, by name; None for one that must not be there.

    Warns:
        UserWarning: SAELens cannot load one of this kind; it says why.
    """
    architecture, lacking = architecture_of(sae)
    if lacking:
        warnings.warn(
            f"SAELens cannot load {sae!r}: it has no {lacking}. `load` here can", stacklevel=3
        )
    files: dict[str, bytes | None] = {OURS: _json(OURS, _ours(sae)), **(beside or {})}
    files[WEIGHTS] = as_safetensors(_tensors(sae, architecture))
    files[CONFIG] = _json(CONFIG, _config(sae, architecture))
    (folder / CONFIG).unlink(missing_ok=True)
    for name, content in files.items():
        if content is None:
            (folder / name).unlink(missing_ok=True)
        else:
            publish(folder / name, [content], len(content))


def architecture_of(sae: SAE) -> tuple[str, str | None]:
    """Its name in SAELens, and what SAELens lacks to load it (None where it can)."""
    crosses = sae.d_in != sae.d_out or sae.target != sae.site or sae.W_skip is not None
    if sae.activation not in _PLAIN:
        return _FOREIGN + sae.activation, f"activation {sae.activation!r}"
    if not crosses:
        return _PLAIN[sae.activation], None
    if sae.normalise != "none":
        return _FOREIGN + sae.activation, "transcoder whose output is normalised"
    skip = "" if sae.W_skip is None else "skip_"
    if sae.activation in ("relu", "jumprelu"):
        return ("" if sae.activation == "relu" else "jumprelu_") + skip + "transcoder", None
    # The formula is that of an SAE that does not subtract b_dec, if the widths are equal.
    if sae.d_in == sae.d_out and not skip:
        return _PLAIN[sae.activation], None
    return _FOREIGN + sae.activation, f"{sae.activation} transcoder"


def _config(sae: SAE, architecture: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architecture": architecture,
        "d_in": sae.d_in,
        "d_sae": sae.n_latents,
        "dtype": str(sae.W_enc.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": sae.subtract_b_dec and "transcoder" not in architecture,
        "normalize_activations": NORMALISERS[sae.normalise],
        "reshape_activations": "none",
    }
    if "transcoder" in architecture or architecture.startswith(_FOREIGN):
        config["d_out"] = sae.d_out
    if sae.activation == "topk":
        config |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    return config | {"metadata": _metadata(sae)}


def _metadata(sae: SAE) -> dict[str, Any]:
    about = sae.about
    metadata: dict[str, Any] = {"sae_lens_version": _LAYOUT, "sae_lens_training_version": None}
    if sae.site:
        metadata["hook_name"] = hook_of(sae.site)
    if sae.target != sae.site:
        metadata["hook_name_out"] = hook_of(sae.target)
    if isinstance(about.get("model"), str):
        metadata["model_name"] = about["model"]
    if "architecture" in about:
        metadata["training_architecture"] = about["architecture"]
    return metadata


def _tensors(sae: SAE, architecture: str) -> dict[str, Tensor]:
    named = {name: tensor.detach() for name, tensor in sae.named_parameters()}
    if "transcoder" in architecture and sae.subtract_b_dec:
        shift = sae.b_dec @ sae.W_enc  # SAELens' transcoders subtract nothing
        named["b_enc"] = named["b_enc"] - shift
    if sae.activation == "gated":
        named["b_gate"] = named.pop("b_enc")
    if sae.W_skip is not None:
        named["W_skip"] = named["W_skip"].T
    return named


def _ours(sae: SAE) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "activation": sae.activation,
        "k": sae.k,
        "subtract_b_dec": sae.subtract_b_dec,
        "normalise": sae.normalise,
        "parts": list(sae.parts),
        "about": sae.about,
    }


def _json(name: str, value: Mapping[str, Any]) -> bytes:
    try:
        return (json.dumps(value, indent=2) + "\n").encode()
    except TypeError as error:
        raise ValueError(f"{name}: `about` must hold JSON values only ({error})") from error


def as_safetensors(tensors: Mapping[str, Tensor], about: dict[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file, whatever device and strides the tensors have."""
    from safetensors.torch import save

    content: bytes = save({name: x.cpu().contiguous() for name, x in tensors.items()}, about)
    return content


# Reading


def read(folder: Path) -> SAE:
    """An SAE that SAELens or `write` saved; a checkpoint of a training of SAELens too.

    Of a checkpoint, the scaling or whitening of its rows and the norms of its decoder are folded
    in, and BatchTopK ones get their threshold: codes are those of SAELens for raw rows.

    Raises:
        FileNotFoundError, ValueError: a file or key is missing, has another shape, or the
            architecture is one that `SAE` has not; names file and key.

    Warns:
        UserWarning: rows were scaled in training, and nothing in the folder says by how much.
    """
    ours = read_json(folder / OURS) if (folder / OURS).is_file() else {}
    tensors = open_tensors(folder / WEIGHTS)
    architecture = str(read_json(folder / CONFIG).get("architecture"))
    if architecture.startswith(_FOREIGN):
        return _read_ours(tensors, ours, folder)
    config = read_config(folder / CONFIG)
    sae = _read_theirs(tensors, config)
    if config.rescaled:
        sae = _ranked_by_norm(sae)
    sae = _in_raw_units(sae, folder, config)
    if ours:
        _check_format(ours, folder)
        sae.about = setting(ours, "about", folder / OURS)
        sae.parts = tuple(setting(ours, "parts", folder / OURS))
    return sae


def _read_theirs(tensors: Tensors, config: Config) -> SAE:
    activation = ACTIVATIONS[config.architecture]
    out = "d_out" if config.transcoder else "d_in"
    encoder = tensors.take("W_enc", "d_in", "latents")
    gated = activation == "gated"
    skip = tensors.maybe("W_skip", out, "d_in") if "skip" in config.architecture else None
    sae = SAE(
        encoder,
        tensors.take("b_gate" if gated else "b_enc", "latents"),
        tensors.take("W_dec", "latents", out),
        tensors.take("b_dec", out),
        activation=activation,
        k=config.k,
        threshold=_threshold(tensors) if activation == "jumprelu" else None,
        r_mag=tensors.take("r_mag", "latents") if gated else None,
        b_mag=tensors.take("b_mag", "latents") if gated else None,
        W_skip=None if skip is None else skip.T.contiguous(),
        subtract_b_dec=config.subtract_b_dec,
        normalise=config.normalise,
        about=config.about,
    )
    if "scaling_factor" in tensors:  # SAELens 2 and 3, for codes that had shrunk
        sae.W_dec.data.mul_(tensors.take("scaling_factor", "latents")[:, None])
    return sae


def _threshold(tensors: Tensors) -> Tensor:
    """SAELens applies a relu besides, so that a threshold below 0 means 0."""
    if "topk_threshold" in tensors:
        latents = tensors.take("b_enc", "latents")
        return torch.full_like(latents, max(tensors.number("topk_threshold"), 0.0))
    if "log_threshold" in tensors:
        return tensors.take("log_threshold", "latents").exp()
    return tensors.take("threshold", "latents").clamp(min=0)


def _ranked_by_norm(sae: SAE) -> SAE:
    """Codes were multiplied by decoder norms after the bias, and ranked (or compared) as such."""
    threshold = sae.threshold
    silent = sae.W_dec.norm(dim=1) == 0
    folded = fold_decoder_norms(sae, ranked_by_norm=True)
    folded.W_enc.data[:, silent] = 0.0
    folded.b_enc.data[silent] = 0.0
    if threshold is not None and folded.threshold is not None:
        folded.threshold.data.copy_(threshold)  # it is of the codes that were compared
    return folded


def _in_raw_units(sae: SAE, folder: Path, config: Config) -> SAE:
    scaler = read_json(folder / SCALER) if (folder / SCALER).is_file() else {}
    if scaler.get("has_whitening"):
        sae = fold(sae, _whitening(folder))
    if (factor := scaler.get("scaling_factor")) is not None:
        zero = torch.zeros(sae.d_in, dtype=torch.float64)
        sae = fold(sae, Affine(zero, torch.tensor(float(factor), dtype=torch.float64)))
    if config.foldable and not scaler:
        warnings.warn(
            f"{config.path}: rows were normalised in training ({config.foldable}), and there is no "
            f"{SCALER} with the factor; codes are those of rows taken as they are",
            stacklevel=4,
        )
    return sae


def _whitening(folder: Path) -> Affine:
    tensors = open_tensors(folder / WHITENING)
    return Affine(tensors.take("mean", "d_in"), tensors.take("matrix", "d_in", "d_in"))


def _read_ours(tensors: Tensors, ours: Mapping[str, Any], folder: Path) -> SAE:
    """One of a kind that SAELens has not: everything but the tensors is in our file."""
    path = folder / OURS
    if not ours:
        raise FileNotFoundError(f"{path} does not exist; it says what the weights beside it are")
    _check_format(ours, folder)
    activation = setting(ours, "activation", path)
    skip = tensors.maybe("W_skip", "d_out", "d_in")
    return SAE(
        tensors.take("W_enc", "d_in", "latents"),
        tensors.take("b_gate" if activation == "gated" else "b_enc", "latents"),
        tensors.take("W_dec", "latents", "d_out"),
        tensors.take("b_dec", "d_out"),
        activation=activation,
        k=setting(ours, "k", path),
        threshold=tensors.maybe("threshold", "latents"),
        r_mag=tensors.maybe("r_mag", "latents"),
        b_mag=tensors.maybe("b_mag", "latents"),
        W_skip=None if skip is None else skip.T.contiguous(),
        subtract_b_dec=setting(ours, "subtract_b_dec", path),
        normalise=setting(ours, "normalise", path),
        parts=tuple(setting(ours, "parts", path)),
        about=setting(ours, "about", path),
    )


def _check_format(ours: Mapping[str, Any], folder: Path) -> None:
    if ours.get("format") != FORMAT:
        raise ValueError(
            f"{folder / OURS} has format {ours.get('format')!r}, this version reads {FORMAT}; "
            "update layerscope"
        )
