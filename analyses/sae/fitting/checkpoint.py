"""The state of a training on disk: continued from there, it ends in the same bits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from layerscope.analyses.sae.fitting.plan import Plan
from layerscope.analyses.sae.rows.source import Rows
from layerscope.store import layout
from layerscope.store.disk import publish

NAME = "checkpoint.safetensors"
CHOSEN = ("inputs", "targets", "architecture", "k", "l0", "l1", "latents", "tokens", "batch")
"""Parts of a plan that are named first where two differ."""
SAID = 4
DTYPES = layout.DTYPES | {torch.int64: "I64", torch.bool: "BOOL"}
"""Names that safetensors has for what a checkpoint may hold."""


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
        about = {"plan": json.dumps(plan), "step": str(self.step)}
        about["history"] = json.dumps(self.history)
        size = sum(tensor.nbytes for tensor in self.tensors.values())
        publish(folder / NAME, _safetensors(self.tensors, about), size)

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


def _safetensors(
    tensors: Mapping[str, Tensor], about: dict[str, str]
) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file, tensor by tensor: the package's `save` copies all, twice."""
    header: dict[str, Any] = {"__metadata__": about}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        places = {"shape": list(tensor.shape), "data_offsets": [start, end]}
        header[name] = {"dtype": DTYPES[tensor.dtype], **places}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for tensor in tensors.values():
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().data


def header_of(plan: Plan, rows: Rows) -> dict[str, Any]:
    """What must be equal for a training to go on or to be given back: the plan and the rows."""
    return plan.as_json(rows.about | {"identity": rows.identity})


def refuse_another(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise ValueError, saying what differs, unless both plans are the same."""
    plain = json.loads(json.dumps(ours))
    differs = [name for name in {**theirs, **plain} if theirs.get(name) != plain.get(name)]
    if differs:
        # What a user chose stands before what followed from it.
        first = sorted(differs, key=lambda name: (name not in CHOSEN, differs.index(name)))[:SAID]
        said = "; ".join(
            f"{name} is {theirs.get(name)!r} there, {plain.get(name)!r} asked" for name in first
        )
        more = f"; and {len(differs) - SAID} more" if len(differs) > SAID else ""
        raise ValueError(
            f"{path} belongs to another training: {said}{more}. Ask for the same, give another "
            "folder, or delete it"
        )


def remove(folder: Path) -> None:
    """Delete the folder's checkpoint, if it has one."""
    (folder / NAME).unlink(missing_ok=True)
