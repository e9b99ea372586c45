"""A model and its tokenizer from the words a user types."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn


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
        FileNotFoundError: `name` looks like a path, and nothing is there.
        OSError: there is no such local folder, and the hub does not have it or is out of reach.
        TypeError: ``file.py:function`` returned something else than a module.
    """
    text = str(name)
    file, colon, function = text.rpartition(":")
    if colon and file.endswith(".py"):
        model = _from_function(Path(file), function)
        model = model if dtype is None else model.to(dtype)
    else:
        model = _from_transformers(text, dtype)
    return model.eval() if device is None else model.to(device).eval()


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
        raise FileNotFoundError(f"no file {str(file)!r}; {_nearby(file)}")
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
        raise TypeError(f"{file.name}:{function} returned a {type(model).__name__}, not a module")
    return model


def _from_transformers(name: str, dtype: torch.dtype | None) -> nn.Module:
    import transformers

    folder = Path(name)
    if _looks_local(name) and not folder.is_dir():
        raise FileNotFoundError(f"no model folder {name!r}; {_nearby(folder)}")
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{name!r} is a folder without config.json; a model folder is what save_pretrained "
            f"writes. {_model_folders(folder)}"
        )
    if not folder.is_dir():
        _require_hub(name)
    config = transformers.AutoConfig.from_pretrained(name)
    declared = (config.architectures or [""])[0]
    loader = getattr(transformers, declared, transformers.AutoModel)
    with _without_bars():
        model: nn.Module = loader.from_pretrained(name, dtype=dtype or "auto")
    return model


def _require_hub(name: str) -> None:
    """Ask the hub once for what is not in its cache: transformers would try again for half a minute.

    Raises:
        OSError: the hub is out of reach.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    try:
        if try_to_load_from_cache(name, "config.json") is None:
            get_hf_file_metadata(hf_hub_url(name, "config.json"))
    except (HfHubHTTPError, ValueError):
        return  # it answers, or the name is none of a hub: transformers says what is wrong
    except Exception as error:  # of the HTTP library, which differs between versions
        raise OSError(
            f"there is no local folder {name!r} in {str(Path.cwd())!r}, nor is a model of this name "
            f"in the cache, and the hub cannot be reached ({error}); give the path of a model folder"
        ) from error


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


def _looks_local(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).exists()


def _nearby(path: Path) -> str:
    if not path.parent.is_dir():
        return f"{str(path.parent)!r} does not exist either"
    names = [entry.name for entry in path.parent.iterdir()]
    near = ", ".join(get_close_matches(path.name, names)) or "nothing with such a name"
    return f"in {str(path.parent)!r} there is: {near}"


def _model_folders(folder: Path) -> str:
    inside = sorted(str(config.parent) for config in folder.glob("*/config.json"))
    return f"Inside there are: {', '.join(inside[:8])}" if inside else "Nor is there one inside."
