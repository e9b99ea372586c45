"""A model and its tokenizer from the words a user types."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from layerscope.hooks.model_names import check_model_name, nearby


def load_model(
    name: str | Path, *, device: str | None = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """Load a model for reading: in eval mode, on `device`.

    Args:
        name: A local folder in the transformers layout, a hub name, or ``file.py:function``
            where the function takes no argument and returns an `nn.Module`.
        device: Such as ``"cuda"``; None leaves the model where it was loaded.
        dtype: None keeps the dtype of the weights as they were saved.

    Raises:
        FileNotFoundError: `name` looks like a path, and nothing is there; or nothing is there and
            a folder of nearly this name is.
        ValueError: a file, or a folder that holds something else, such as a store; or a device that
            is not there.
        OSError: there is no such local folder, and the hub does not have it or is out of reach.
        TypeError: ``file.py:function`` returned something else than a module.
    """
    if device is not None:
        check_device(device)
    text = str(Path(name).expanduser()) if str(name).startswith("~") else str(name)
    file, colon, function = text.rpartition(":")
    if colon and file.endswith(".py"):
        model = _from_function(Path(file), function)
        model = model if dtype is None else model.to(dtype)
    else:
        model = _from_transformers(text, dtype)
    return model.eval() if device is None else model.to(device).eval()


def check_device(device: str | torch.device) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        ValueError: no such kind of device, or none of it can be reached by this PyTorch.
    """
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        there = [*(f"cuda:{i}" for i in range(torch.cuda.device_count())), "cpu"]
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ValueError(
            f"device {str(device)!r} cannot be used here ({reason}; torch {torch.__version__}); "
            f"there is: {', '.join(there)}"
        ) from error


def tokenizer_of(model: nn.Module, tokenizer: Any = None) -> Any:
    """The tokenizer to use with `model`: the one given (object or path), or the model's own.

    Raises:
        ValueError: there is none, or it cannot tell character offsets.
    """
    if tokenizer is None:
        tokenizer = getattr(model, "name_or_path", "")
    if not tokenizer:
        raise ValueError(
            f"{type(model).__name__} does not say where its tokenizer is (no name_or_path); "
            "pass tokenizer=, or give tensors instead of texts"
        )
    if isinstance(tokenizer, (str, Path)):
        tokenizer = _load_tokenizer(str(tokenizer))
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} gives no character offsets, which align labels with "
            "tokens; pass a fast tokenizer (one with a tokenizer.json)"
        )
    return tokenizer


def device_of(model: nn.Module) -> torch.device:
    """Where the model's inputs belong: the device of its first parameter that has data."""
    tensors = [*model.parameters(), *model.buffers()]
    real = [tensor.device for tensor in tensors if tensor.device.type != "meta"]
    return real[0] if real else torch.device("cpu")


def dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype the model computes in: that of its first floating-point parameter."""
    tensors = [*model.parameters(), *model.buffers()]
    return next((x.dtype for x in tensors if x.is_floating_point()), torch.float32)


def _from_function(file: Path, function: str) -> nn.Module:
    if not file.is_file():
        raise FileNotFoundError(f"no file {str(file)!r}; {nearby(file)}")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{str(file)!r} cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    build = getattr(module, function, None)
    if not callable(build):
        public = ", ".join(n for n, v in vars(module).items() if callable(v) and n[0] != "_")
        raise ValueError(f"{str(file)!r} has no function {function!r}; it has: {public or 'none'}")
    model = build()
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"{file.name}:{function} returned a {type(model).__name__}, not a module; it must return "
            "the nn.Module itself"
        )
    return model


def _from_transformers(name: str, dtype: torch.dtype | None) -> nn.Module:
    check_model_name(name)
    import transformers

    config = transformers.AutoConfig.from_pretrained(name)
    declared = (config.architectures or [""])[0]
    loader = getattr(transformers, declared, transformers.AutoModel)
    with _without_bars():
        model: nn.Module = loader.from_pretrained(name, dtype=dtype or "auto")
    return model


@contextmanager
def _without_bars() -> Iterator[None]:
    """transformers shows a bar for every load, however short; its setting comes back afterwards."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _load_tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    folder = Path(name)
    if folder.is_dir() and not any(folder.glob("*token*")) and not any(folder.glob("vocab*")):
        raise ValueError(f"the model folder {name!r} holds no tokenizer; pass tokenizer=")
    return AutoTokenizer.from_pretrained(name)
