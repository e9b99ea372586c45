"""What the ``cfg.json`` of SAELens says, in its present and its older spelling."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerscope.analyses.sae.formats.names import site_of_hook
from layerscope.analyses.sae.formats.tensors import read_json, setting

NORMALISERS = {"none": "none", "layer_norm": "layer_norm", "constant_norm": "constant_norm_rescale"}
"""Normaliser of `SAE` -> its name in SAELens."""

FOLDABLE = ("expected_average_only_in", "covariance_whitening")
"""Normalisations that SAELens folds into the weights when a training ends."""

ACTIVATIONS = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
    "batchtopk": "jumprelu",
    "matryoshka_batchtopk": "jumprelu",
}
"""Architecture of SAELens -> activation. The last two exist in checkpoints of a training only."""

_RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index"}
_KEPT = ("context_size", "prepend_bos", "dataset_path", "neuronpedia_id", "reshape_activations")


@dataclass(frozen=True)
class Config:
    """One ``cfg.json``, checked."""

    path: Path
    architecture: str
    k: int | None
    subtract_b_dec: bool
    normalise: str
    foldable: str | None
    """A normalisation of the training that may not be in the weights yet."""
    rescaled: bool
    """Whether codes are multiplied by decoder norms before they are ranked."""
    about: dict[str, Any]

    @property
    def transcoder(self) -> bool:
        return "transcoder" in self.architecture


def read_config(path: Path) -> Config:
    """Read and check a ``cfg.json`` of SAELens 3 to 6.

    Raises:
        FileNotFoundError, ValueError: no such file, an architecture that `SAE` has not, or a
            missing key; names file and key.
    """
    raw = {_RENAMED.get(key, key): value for key, value in read_json(path).items()}
    known = raw | (raw.get("metadata") or {})
    architecture = _architecture(raw, path)
    normalise, foldable = _normalisation(raw, architecture, path)
    transcoder = "transcoder" in architecture
    return Config(
        path=path,
        architecture=architecture,
        k=_k(raw, path) if architecture == "topk" else None,
        subtract_b_dec=bool(raw.get("apply_b_dec_to_input", True)) and not transcoder,
        normalise=normalise,
        foldable=foldable,
        rescaled=bool(raw.get("rescale_acts_by_decoder_norm", False)),
        about=_about(known, architecture),
    )


def _architecture(raw: dict[str, Any], path: Path) -> str:
    named = str(raw.get("architecture", "standard"))
    if named == "standard" and raw.get("activation_fn_str", raw.get("activation_fn")) == "topk":
        named = "topk"
    if named not in ACTIVATIONS:
        raise ValueError(
            f"{path}: architecture {named!r} of SAELens; there are {', '.join(ACTIVATIONS)}"
        )
    return named


def _k(raw: dict[str, Any], path: Path) -> int:
    older = (raw.get("activation_fn_kwargs") or {}).get("k")
    return int(setting(raw, "k", path) if older is None else older)


def _normalisation(raw: dict[str, Any], architecture: str, path: Path) -> tuple[str, str | None]:
    named = raw.get("normalize_activations") or "none"
    if named is True:
        named = FOLDABLE[0]
    if named in FOLDABLE:
        return "none", named
    ours = {theirs: name for name, theirs in NORMALISERS.items()}.get(named)
    if ours is None:
        raise ValueError(f"{path}: 'normalize_activations' is {named!r}, which is unknown")
    if ours != "none" and "transcoder" in architecture:
        raise ValueError(
            f"{path}: a transcoder with 'normalize_activations' {named!r}: SAELens normalises its "
            "input and leaves its output, which no SAE here does"
        )
    return ours, None


def _about(known: dict[str, Any], architecture: str) -> dict[str, Any]:
    told = known.get("training_architecture")
    about: dict[str, Any] = {"format": "saelens", "architecture": told or architecture}
    if hook := known.get("hook_name"):
        about["site"] = site_of_hook(hook)
    if hook := known.get("hook_name_out"):
        about["target"] = site_of_hook(hook)
    if model := known.get("model_name"):
        about["model"] = model
    return about | {key: known[key] for key in _KEPT if known.get(key) not in (None, "none")}
