"""Tensors of somebody else's file, read without running code; errors name the file and the key."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_COMPILED = "_orig_mod."
"""What `torch.compile` puts into the names of a module that it wraps."""


@dataclass
class Tensors:
    """The entries of one file. Sizes that have a name (``"latents"``) must agree between keys."""

    path: Path
    values: Mapping[str, Any]
    sizes: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Named size -> its value, and the key that fixed it."""

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def take(self, key: str, *shape: str) -> Tensor:
        """The tensor under `key`, in float32 unless it is float64.

        Args:
            key: Its name in the file.
            *shape: A name for each of its sizes; a name seen before must have the same value.

        Raises:
            ValueError: no such key, no tensor, another shape, or NaN in it; names file and key.
        """
        tensor = self.required(key)
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{self.path}: {key!r} is a {type(tensor).__name__}, not a tensor")
        self._check(key, tensor, shape)
        if not tensor.dtype.is_floating_point or tensor.dtype.itemsize < 4:
            tensor = tensor.float()
        if tensor.isnan().any():
            raise ValueError(f"{self.path}: {key!r} holds NaN; the training or the copy failed")
        return tensor

    def maybe(self, key: str, *shape: str) -> Tensor | None:
        """As `take`; None where the key is absent."""
        return self.take(key, *shape) if key in self.values else None

    def required(self, key: str) -> Any:
        """Whatever lies under `key`."""
        if key not in self.values:
            there = ", ".join(sorted(self.values)) or "nothing"
            raise ValueError(f"{self.path}: no key {key!r}; there is {there}")
        return self.values[key]

    def number(self, key: str) -> float:
        """A number, stored as one or as a tensor with one value."""
        value = self.required(key)
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"{self.path}: {key!r} has shape {list(value.shape)}, not one value")
        return float(value)

    def _check(self, key: str, tensor: Tensor, shape: tuple[str, ...]) -> None:
        known = [self.sizes.get(name, (None, ""))[0] for name in shape]
        fits = len(shape) == tensor.ndim and all(
            size in (None, there) for size, there in zip(known, tensor.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join(
                name if size is None else f"{name} = {size}"
                for name, size in zip(shape, known, strict=True)
            )
            fixed = {self.sizes[name][1] for name in shape if name in self.sizes}
            seen = f" (from {', '.join(map(repr, sorted(fixed)))})" if fixed else ""
            raise ValueError(
                f"{self.path}: {key!r} has shape {list(tensor.shape)}, it must be [{wanted}]{seen}"
            )
        for name, size in zip(shape, tensor.shape, strict=True):
            self.sizes.setdefault(name, (size, key))


def open_tensors(path: Path) -> Tensors:
    """A .safetensors, .npz or PyTorch file; prefixes of `torch.compile` are taken off its keys.

    Raises:
        FileNotFoundError: there is none.
        ValueError: damaged, or a PyTorch file that holds more than tensors and plain values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        values = _safetensors(path)
    elif path.suffix == ".npz":
        values = _npz(path)
    else:
        values = _pytorch(path)
    return Tensors(path, {key.replace(_COMPILED, ""): value for key, value in values.items()})


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: damaged, or no object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it says what the weights beside it are")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, not an object with keys")
    return found


def setting(about: Mapping[str, Any], key: str, path: Path) -> Any:
    """`about[key]`; the error names the file that it was read from."""
    if key not in about:
        raise ValueError(f"{path}: no key {key!r}; there is {', '.join(sorted(about))}")
    return about[key]


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _npz(path: Path) -> dict[str, Any]:
    import zipfile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: torch.from_numpy(file[key]) for key in file.files}
    except (ValueError, zipfile.BadZipFile, TypeError) as error:
        raise ValueError(f"{path} is damaged or holds Python objects: {error}") from error


def _pytorch(path: Path) -> dict[str, Any]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors; reading the rest could run anything, so it is "
            "not read. Where it came from, save its state_dict() alone and load that"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is damaged or no PyTorch file: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError(
            f"{path} holds a {type(found).__name__}, not a state_dict of named tensors"
        )
    return found
