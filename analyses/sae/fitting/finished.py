"""A finished training on disk, and the same call finding it again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from layerscope.analyses.sae.fitting.checkpoint import NAME as CHECKPOINT
from layerscope.analyses.sae.fitting.checkpoint import refuse_another, remove
from layerscope.analyses.sae.formats.saelens import CONFIG
from layerscope.analyses.sae.formats.save_load import load, save
from layerscope.analyses.sae.sae import SAE
from layerscope.store.disk import publish

NAME = "training.json"


def keep(
    folder: Path, saes: Sequence[SAE], names: Sequence[str], header: Mapping[str, Any]
) -> None:
    """Write each SAE with its history; then say that all are there, and drop the checkpoint."""
    places = _places(folder, names)
    for sae, place in zip(saes, places, strict=True):
        # What lies there is this training's: `open_folder` saw to that.
        save(sae, place, overwrite=True)
    named = [str(place.relative_to(folder)) for place in places]
    body = json.dumps({"plan": header, "saes": named}, indent=1).encode()
    publish(folder / NAME, [body], len(body))
    remove(folder)


def open_folder(folder: Path, names: Sequence[str]) -> None:
    """Make the folder of a training, before the work and not after it.

    Raises:
        FileExistsError: an SAE is there that no training of this folder made, or a file.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; give a folder for checkpoints and the SAE")
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CHECKPOINT).is_file():
        return
    for place in _places(folder, names):
        if (place / CONFIG).exists():
            raise FileExistsError(
                f"{place} holds an SAE that this training did not make; give another folder, or "
                "delete it"
            )


def give_back(folder: Path, header: Mapping[str, Any]) -> tuple[SAE, ...] | None:
    """The SAEs of a training that ended here; None where none did.

    Raises:
        ValueError: another training ended here; says what differs.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    body = json.loads(path.read_text())
    refuse_another(path, body["plan"], header)
    return tuple(load(folder / place) for place in body["saes"])


def _places(folder: Path, names: Sequence[str]) -> list[Path]:
    """The folder itself for one SAE; else names that no system minds, told apart by numbers."""
    if len(names) == 1:
        return [folder]
    return [
        folder / f"{number}_{re.sub(r'[^A-Za-z0-9.=-]+', '_', name)[:60]}"
        for number, name in enumerate(names)
    ]
