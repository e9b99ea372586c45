"""The state of a training on disk: continued from there, it ends in the same bits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from layerscope.store.disk import publish

NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next step depends on."""

    tensors: dict[str, Tensor]
    """Weights, moments, silence, thresholds and the place in the rows, by name."""
    step: int
    """Steps that were done."""
    history: list[dict[str, Any]]
    """Lines of the history so far, JSON values."""

    def write(self, folder: Path, plan: Mapping[str, Any]) -> None:
        """Replace the folder's checkpoint; the old one stays until the new one is whole."""
        folder.mkdir(parents=True, exist_ok=True)
        header = {"plan": json.dumps(plan), "step": str(self.step)}
        header["history"] = json.dumps(self.history)
        whole = {name: tensor.contiguous().cpu() for name, tensor in self.tensors.items()}
        body = save(whole, header)
        publish(folder / NAME, [body], len(body))

    @classmethod
    def read(cls, folder: Path, plan: Mapping[str, Any]) -> Checkpoint | None:
        """The folder's checkpoint; None where there is none.

        Raises:
            ValueError: it belongs to another training (says what differs), or is damaged.
        """
        path = folder / NAME
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                theirs = json.loads(header["plan"])
                step, history = int(header["step"]), json.loads(header["history"])
        except Exception as error:
            raise ValueError(f"{path} is damaged ({error}); delete it to start again") from error
        refuse_another(path, theirs, plan)
        return cls(tensors, step, history)


def refuse_another(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise ValueError, saying what differs, unless both plans are the same."""
    plain = json.loads(json.dumps(ours))
    differs = [name for name in {**theirs, **plain} if theirs.get(name) != plain.get(name)]
    if differs:
        said = "; ".join(
            f"{name} is {theirs.get(name)!r} there, {plain.get(name)!r} asked" for name in differs
        )
        raise ValueError(
            f"{path} belongs to another training: {said}. Ask for the same, give another folder, "
            "or delete it"
        )


def remove(folder: Path) -> None:
    """Delete the folder's checkpoint, if it has one."""
    (folder / NAME).unlink(missing_ok=True)
