"""Checkpoints of one run in the order of their steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from layerscope.hooks.load import load_model
from layerscope.store import Store

Given = nn.Module | Store | str | Path | Callable[[], nn.Module]
UNTELLING = ("hf", "model", "checkpoint", "store", "final")
"""Names of folders that say nothing about what is in them."""


@dataclass(frozen=True)
class Checkpoint:
    """One point of a run."""

    step: float
    name: str
    given: Given

    def load(self) -> nn.Module:
        """The model; a path is read only now.

        Raises:
            TypeError: neither a module, nor a path, nor a function that returns a module.
        """
        if isinstance(self.given, nn.Module):
            return self.given
        if isinstance(self.given, (str, Path)):
            return load_model(self.given)
        if isinstance(self.given, Store):
            raise TypeError(
                f"{self.name} is a store, where a model is needed; give the checkpoint's own folder"
            )
        made = self.given()
        if not isinstance(made, nn.Module):
            raise TypeError(
                f"the function for step {self.step:g} returned {type(made).__name__}; "
                "it must return the nn.Module"
            )
        return made


def checkpoints(models: Any, steps: Sequence[float] | None = None) -> list[Checkpoint]:
    """Checkpoints in the order of their steps.

    Args:
        models: A folder of model folders; a list of models, stores, paths or functions that make a
            model; or ``{step: one of these}``. Keys may be names with a number in them, such as
            ``"step 10"``; names without keep their order.
        steps: One for each; None takes the number in the part of the paths that differs only by
            it, else 0, 1, 2...

    Raises:
        FileNotFoundError: no folder, or no model in it.
        ValueError: fewer than two checkpoints, or two of the same step.
    """
    if isinstance(models, (str, Path)):
        models = _folders(Path(models))
    if isinstance(models, nn.Module):
        raise ValueError("one model has not moved from itself; give a list of checkpoints")
    if isinstance(models, Mapping):
        listed, names = list(models.values()), [str(key) for key in models]
        numbers = _keys(list(models)) if steps is None else list(map(float, steps))
    else:
        listed = list(models)
        numbers = _steps(listed) if steps is None else list(map(float, steps))
        names = _names(listed, numbers)
    if len(numbers) != len(listed):
        raise ValueError(f"there are {len(listed)} checkpoints, but {len(numbers)} steps")
    found = [Checkpoint(*one) for one in zip(numbers, names, listed, strict=True)]
    found.sort(key=lambda one: one.step)
    if len(found) < 2:
        raise ValueError(f"{len(found)} checkpoint cannot be compared; give at least two")
    if len({one.step for one in found}) < len(found):
        raise ValueError("two checkpoints have the same step; pass steps=, or {step: checkpoint}")
    return found


def folder_of(given: Given) -> str | None:
    """The last folder that tells what a model or store is; None where there is none."""
    if isinstance(given, Store):
        return given.path.name
    if isinstance(given, (str, Path)):
        path = str(given)
    else:
        path = getattr(getattr(given, "config", None), "name_or_path", "") or ""
    parts = [part for part in Path(path).parts if part not in ("/", *UNTELLING)]
    return parts[-1] if parts else None


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {str(folder)!r}; give the folder of the checkpoints")
    found = [config.parent for config in folder.glob("*/config.json")]
    if not found:
        raise FileNotFoundError(
            f"{str(folder)!r} holds no model folders (with config.json each); for weights of your own "
            "module, give a list of models, or {step: function that returns the model}"
        )
    return sorted(found)


def _keys(keys: list[Any]) -> list[float]:
    """The numbers that keys are, or have in them; else their order."""
    try:
        return [float(key) for key in keys]
    except (TypeError, ValueError):
        return _numbers([str(key) for key in keys]) or [float(i) for i in range(len(keys))]


def _steps(listed: Sequence[Given]) -> list[float]:
    """The number in the part of the paths that differs; 0, 1, 2... where they have none."""
    counted = [float(i) for i in range(len(listed))]
    paths = [Path(one) for one in listed if isinstance(one, (str, Path))]
    if len(paths) < len(listed):
        return counted
    found = [
        numbers
        for parts in zip(*(reversed(path.parts) for path in paths), strict=False)
        if (numbers := _numbers(parts)) is not None
    ]
    telling = [numbers for numbers in found if len(set(numbers)) == len(numbers)]
    return (telling or found or [counted])[0]


def _numbers(names: Sequence[str]) -> list[float] | None:
    """The last number in each name, where the names differ in nothing else."""
    found = [re.search(r"(\d+)(\D*)$", name) for name in names]
    matched = [one for one in found if one is not None]
    around = {(one.string[: one.start()], one[2]) for one in matched}
    if len(matched) < len(names) or len(around) > 1:
        return None
    return [float(one[1]) for one in matched]


def _names(listed: Sequence[Given], steps: Sequence[float]) -> list[str]:
    """The folder of each, where that tells them apart; else its step."""
    found = [folder_of(one) for one in listed]
    if all(found) and len(set(found)) == len(found):
        return [str(name) for name in found]
    return [f"{step:g}" for step in steps]
