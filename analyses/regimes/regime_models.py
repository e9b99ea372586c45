"""Checkpoints of one run, loaded one after the other, and the parts their weights fall into."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from layerscope.hooks.load import load_model

Given = nn.Module | str | Path | Callable[[], nn.Module]
MOST_PARTS = 24


@dataclass(frozen=True)
class Checkpoint:
    """One point of a run."""

    step: float
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
        made = self.given()
        if not isinstance(made, nn.Module):
            raise TypeError(f"the function for step {self.step:g} returned {type(made).__name__}")
        return made


def checkpoints(models: Any, steps: Sequence[float] | None = None) -> list[Checkpoint]:
    """Checkpoints in the order of their steps.

    Args:
        models: A folder of model folders; a list of models, paths or functions that make a model; or
            ``{step: one of these}``.
        steps: One for each; None takes the last number in the part of the paths that
            differs, else 0, 1, 2...

    Raises:
        FileNotFoundError: no folder, or no model in it.
        ValueError: fewer than two checkpoints, or two of the same step.
    """
    if isinstance(models, (str, Path)):
        models = _folders(Path(models))
    if isinstance(models, nn.Module):
        raise ValueError("one model has not moved from itself; give a list of checkpoints")
    if isinstance(models, Mapping):
        found = [Checkpoint(float(step), one) for step, one in models.items()]
    else:
        listed = list(models)
        numbers = _steps(listed) if steps is None else list(map(float, steps))
        if len(numbers) != len(listed):
            raise ValueError(f"there are {len(listed)} checkpoints, but {len(numbers)} steps")
        found = [Checkpoint(step, one) for step, one in zip(numbers, listed, strict=True)]
    found.sort(key=lambda one: one.step)
    if len(found) < 2:
        raise ValueError(f"{len(found)} checkpoint cannot be compared; give at least two")
    if len({one.step for one in found}) < len(found):
        raise ValueError("two checkpoints have the same step; pass steps=")
    return found


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Floating-point parameters, tied ones once."""
    return {n: p.detach() for n, p in model.named_parameters() if p.is_floating_point()}


def check_same(first: Mapping[str, Tensor], other: Mapping[str, Tensor], step: float) -> None:
    """Refuse a checkpoint whose parameters have other names or shapes.

    Raises:
        ValueError: with the first parameter that differs.
    """
    ours, theirs = ({n: tuple(w.shape) for n, w in ws.items()} for ws in (first, other))
    if ours == theirs:
        return
    name = next(n for n in {**ours, **theirs} if ours.get(n) != theirs.get(n))
    raise ValueError(
        f"step {step:g} is not a checkpoint of the same model: {name} is "
        f"{theirs.get(name, 'missing')} there and {ours.get(name, 'missing')} in the first"
    )


def parts_of(model: nn.Module, names: Sequence[str]) -> dict[str, tuple[str, int | None]]:
    """Parameter -> the part it belongs to, and the part's layer.

    Blocks where the model has them, and what is before, between and behind by its own name; else the
    module that holds the parameter, or above 24 of these, the top-level module.
    """
    blocks = stack_of(model)
    holders = {name: name.rpartition(".")[0] or name for name in names}
    if not blocks and len(set(holders.values())) > MOST_PARTS:
        holders = {name: name.split(".")[0] for name in names}
    found: dict[str, tuple[str, int | None]] = {}
    for name in names:
        path = next((p for p in blocks if name.startswith(f"{p}.")), None)
        found[name] = (
            (holders[name], None) if path is None else (_block(path, blocks), blocks[path])
        )
    return found


def stack_of(model: nn.Module) -> dict[str, int]:
    """Path and number of each block; none where the "blocks" are single layers of a plain chain."""
    from layerscope.hooks.anatomy import anatomy

    found = anatomy(model)
    blocks = {b.path: b.index for b in (*found.encoder, *found.blocks) if b.path}
    modules = dict(model.named_modules(remove_duplicate=False))
    deep = all(any(True for _ in modules[path].children()) for path in blocks)
    return blocks if deep else {}


def _block(path: str, blocks: Mapping[str, int]) -> str:
    repeated = list(blocks.values()).count(blocks[path]) > 1  # encoder and decoder
    return path if repeated else f"blocks.{blocks[path]}"


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


def _steps(listed: Sequence[Given]) -> list[float]:
    """The last number in the part of the paths that differs; 0, 1, 2... where one has none."""
    paths = [Path(one) for one in listed if isinstance(one, (str, Path))]
    counted = [float(i) for i in range(len(listed))]
    if len(paths) < len(listed):
        return counted
    for parts in zip(*(reversed(path.parts) for path in paths), strict=False):
        numbers = _numbers(parts)
        if numbers is not None and len(set(numbers)) == len(numbers):
            return numbers
    return _numbers([str(path) for path in paths]) or counted


def _numbers(names: Sequence[str]) -> list[float] | None:
    """The last number in each name; None where one has none."""
    found = [re.search(r"(\d+)\D*$", name) for name in names]
    if any(one is None for one in found):
        return None
    return [float(one[1]) for one in found if one is not None]
