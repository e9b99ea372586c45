"""`save` and `load`: one folder out, whatever anybody wrote in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from layerscope.analyses.sae.fitting.history import TrainingFinding
from layerscope.analyses.sae.formats import (
    crosscoder,
    dictionary_learning,
    gemma_scope,
    llama_scope,
    openai,
    qwen_scope,
    saelens,
    sparsify,
    top_afa,
)
from layerscope.analyses.sae.formats.recognising import (
    FORMATS,
    STATISTICS,
    file_in,
    recognise,
    unknown,
)
from layerscope.analyses.sae.rows.statistics import Statistics
from layerscope.analyses.sae.sae import SAE

_TAKES_K = ("qwen_scope", "top_afa")

HISTORY = "history"
"""Folder beside the weights: how the training went, a finding."""


def save(sae: SAE, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write an SAE into `folder` as SAELens does; returns the folder.

    ``cfg.json`` and ``sae_weights.safetensors`` are what SAELens and the tools around it read.
    ``layerscope.json`` (where it comes from, `parts`) and ``statistics.safetensors`` (of its
    training rows) hold what SAELens has no key for. Each file appears whole or not at all, and
    ``cfg.json`` last.

    Args:
        sae: Any; SAELens loads ReLU, TopK, JumpReLU and gated ones, and transcoders with ReLU or
            JumpReLU. A crosscoder is to SAELens an SAE of its sites' vectors side by side.
        folder: Is created.
        overwrite: Whether an SAE that is there may be replaced.

    Raises:
        FileExistsError: one is there.
        ValueError: `about` holds what JSON cannot.

    Warns:
        UserWarning: SAELens cannot load one of this kind.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if (path / saelens.CONFIG).exists() and not overwrite:
        raise FileExistsError(
            f"{path} holds an SAE already; give another folder, or overwrite=True"
        )
    saelens.write(sae, path, {STATISTICS: _statistics(sae)})
    if sae.history is not None:
        sae.history.save(path / HISTORY)
    return path


def load(
    path: str | Path,
    format: str | None = None,
    *,
    k: int | None = None,
    device: torch.device | str = "cpu",
) -> SAE:
    """An SAE from a folder or file of any of `FORMATS`, in raw units.

    Weights in half precision become float32. PyTorch files are read with ``weights_only=True``.

    Args:
        path: A folder (of SAELens, sparsify, Llama Scope, top-afa-sae, or one that holds
            ``ae.pt`` or ``params.npz``) or a file.
        format: None recognises it. ``"dictionary_learning:BatchTopKSAE"`` also names the class,
            where no ``config.json`` does.
        k: Latents kept per row, where the format does not store it (Qwen-Scope outside its
            folder) or has no other way to be used on single rows (BatchTopK of top-afa-sae).
        device: Where the weights go.

    Raises:
        FileNotFoundError: no such path, or a file is missing.
        ValueError: not recognised, several SAEs in the folder, a missing or misshapen key, or an
            SAE of a kind that cannot be read; names file and key.
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(
            f"{place} does not exist; nothing is downloaded here: give the folder or file of an SAE "
            "that is on this machine"
        )
    name, _, dict_class = (format or recognise(place)).partition(":")
    if name not in FORMATS:
        raise ValueError(f"format {name!r}; there are {', '.join(FORMATS)}")
    if dict_class and name != "dictionary_learning":
        raise ValueError(f"format {format!r}: only dictionary_learning has classes to name")
    if k is not None and name not in _TAKES_K:
        raise ValueError(f"{place} ({name}) says itself how many latents are kept: leave out k={k}")
    try:
        sae = _read(name, place, dict_class or None, k)
    except ValueError as error:
        if str(place) in str(error):
            raise
        raise ValueError(f"{place} ({name}): {error}") from error
    return sae.to(device=device, dtype=sae.W_enc.dtype)


def _read(name: str, path: Path, dict_class: str | None, k: int | None) -> SAE:
    folder = path if path.is_dir() else path.parent
    if name == "saelens":
        sae = saelens.read(folder)
        sae.statistics = _read_statistics(folder / STATISTICS)
        if (folder / HISTORY).is_dir():
            sae.history = TrainingFinding.load(folder / HISTORY)
        return sae
    of_folder: dict[str, Callable[[Path], SAE]] = {
        "sparsify": sparsify.read,
        "llama_scope": llama_scope.read,
        "top_afa": lambda place: top_afa.read(place, k),
    }
    if name in of_folder:
        return of_folder[name](folder)
    file = file_in(path)
    if file is None:
        raise ValueError(unknown(path))
    of_file: dict[str, Callable[[Path], SAE]] = {
        "dictionary_learning": lambda place: dictionary_learning.read(place, dict_class),
        "openai": openai.read,
        "gemma_scope": gemma_scope.read,
        "qwen_scope": lambda place: qwen_scope.read(place, k),
        "crosscoder": crosscoder.read,
    }
    return of_file[name](file)


def _statistics(sae: SAE) -> bytes | None:
    if sae.statistics is None:
        return None
    known = sae.statistics
    return saelens.as_safetensors(known.tensors(), {"site": known.site})


def _read_statistics(path: Path) -> Statistics | None:
    if not path.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            site = file.metadata()["site"]
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return Statistics.read(tensors, site)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); delete it to load the SAE without the statistics of "
            "its training rows"
        ) from error
