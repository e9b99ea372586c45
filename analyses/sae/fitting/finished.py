"""A finished training on disk, and the same call finding it again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from layerscope.analyses.sae.fitting.checkpoint import refuse_another, remove
from layerscope.analyses.sae.fitting.history import TrainingFinding
from layerscope.analyses.sae.formats.save_load import load, save
from layerscope.analyses.sae.sae import SAE
from layerscope.store.disk import publish

NAME = "training.json"
HISTORY = "history"


def keep(
    folder: Path, saes: Sequence[SAE], names: Sequence[str], header: Mapping[str, Any]
) -> None:
    """Write each SAE with its history; then say that all are there, and drop the checkpoint."""
    places = [folder if len(saes) == 1 else folder / place for place in _places(names)]
    for sae, place in zip(saes, places, strict=True):
        # What lies there is this training's: the plan was compared before.
        save(sae, place, overwrite=True)
        if sae.history is not None:
            sae.history.save(place / HISTORY)
    named = [str(place.relative_to(folder)) for place in places]
    body = json.dumps({"plan": header, "saes": named}, indent=1).encode()
    publish(folder / NAME, [body], len(body))
    remove(folder)


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
    saes = []
    for place in body["saes"]:
        sae = load(folder / place)
        sae.history = TrainingFinding.load(folder / place / HISTORY)
        saes.append(sae)
    return tuple(saes)


def _places(names: Sequence[str]) -> list[str]:
    """Folder names that no system minds, told apart by their numbers."""
    return [
        f"{number}_{re.sub(r'[^A-Za-z0-9.=-]+', '_', name)[:60]}"
        for number, name in enumerate(names)
    ]
