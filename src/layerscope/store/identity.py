"""What a model is and what a tokenizer is, as short JSON: the parts of a store's key."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from layerscope.store.fingerprint import fingerprints
from layerscope.store.key import canonical

# Say how a model was saved or what it should return, not what it computes.
_VOLATILE = frozenset(
    {
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "dtype",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
# State of training and of loading, not of what a module computes.
_STATE = frozenset({"training", "_is_full_backward_hook", "_is_hf_initialized", "_old_forward"})
# Their classes say what they are by name and config; everybody else's by source.
_KNOWN = frozenset({"torch", "transformers", "builtins"})


def identity_of(model: nn.Module) -> dict[str, Any]:
    """What `model` is: class, configuration, and the exact content of every weight and buffer.

    The same weights loaded from another folder give the same identity; one changed bit in one
    weight gives another. Runs on the device of each tensor; modes and gradients stay as they are.

    Returns:
        JSON values: ``class``, ``config`` (models with one), ``modules`` (a hash over the tree of
        classes and, outside torch and transformers, their settings and source), and ``tensors``
        ``{name: "dtype shape hash"}``.

    Raises:
        ValueError: a weight is not there: on the meta device, or still to be initialised.
    """
    config = getattr(model, "config", None)
    return {
        "class": type(model).__qualname__,
        "config": _config(config) if hasattr(config, "to_dict") else None,
        "modules": _digest(dict(_modules(model))),
        "tensors": dict(fingerprints(model)),
    }


def tokenizer_identity(tokenizer: Any) -> dict[str, Any]:
    """What `tokenizer` is: class, vocabulary, rules and special tokens, not where it came from.

    Truncation and padding are left out: calls switch them on and off.

    Raises:
        TypeError: it is not a transformers tokenizer: it has no vocabulary.
    """
    if tokenizer is None:
        return {}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rules = json.loads(backend.to_str())
        rules.pop("truncation", None)
        rules.pop("padding", None)
    elif hasattr(tokenizer, "get_vocab"):
        rules = {"vocab": tokenizer.get_vocab(), "settings": _plain(tokenizer.init_kwargs)}
    else:
        raise TypeError(
            f"{type(tokenizer).__name__} is not a transformers tokenizer: it has no vocabulary; "
            "give one from AutoTokenizer.from_pretrained"
        )
    special = getattr(tokenizer, "special_tokens_map", {})
    return {
        "class": type(tokenizer).__qualname__,
        "rules": _digest(rules),
        "special": _plain(special),
    }


def _config(config: Any) -> dict[str, Any]:
    settings: dict[str, Any] = _plain(config.to_dict())
    # Eager, SDPA and flash attention differ in the last digits.
    return settings | {"attention": _plain(getattr(config, "_attn_implementation", None))}


def _plain(value: Any) -> Any:
    """JSON values without addresses in memory, without volatile fields."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(v) for name, v in value.items() if name not in _VOLATILE}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict())
    return type(value).__qualname__


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()[:16]


def _modules(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Each module by class; outside transformers, whose config says it all, by settings too."""
    sources: dict[type, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        kind = type(module)
        if _root(kind) == "transformers":
            yield path, kind.__qualname__
            continue
        if kind not in sources:
            sources[kind] = [_source(base) for base in kind.__mro__ if _root(base) not in _KNOWN]
        yield path, [kind.__qualname__, sources[kind], dict(_settings(module))]


def _root(kind: type) -> str:
    return kind.__module__.split(".")[0]


def _source(kind: type) -> str:
    """A hash of the code of a class: the same weights under another forward are another model."""
    try:
        return _digest(inspect.getsource(kind))
    except (OSError, TypeError):  # typed at a prompt, or built by code: there is no source
        return kind.__qualname__


def _settings(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Plain attributes such as a number of heads, and functions, which no weight shows."""
    private = _root(type(module)) not in _KNOWN
    for name, value in vars(module).items():
        if name in _STATE or (name.startswith("_") and not private):
            continue
        if _is_simple(value) or (isinstance(value, list | tuple) and all(map(_is_simple, value))):
            yield name, _plain(value)
        elif inspect.isroutine(value):
            yield name, value.__qualname__


def _is_simple(value: Any) -> bool:
    return isinstance(value, str | bool | int | float)
