"""The untrained twin: the same architecture with fresh weights, the baseline of every probe.

What a probe finds in the twin is there before any training: the identity of words shines through
random layers, and context is mixed in by random attention.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def untrained_twin(model: nn.Module, *, seed: int = 0, keep_embeddings: bool = False) -> nn.Module:
    """A copy of `model` with newly initialised weights; the model itself is not touched.

    Parts from transformers are initialised as their class does it for their config. All other
    modules are reset by their own ``reset_parameters``. Device, dtype, train or eval mode and
    ``name_or_path`` (where the tokenizer is) stay; the global random generators do not move.

    Args:
        model: Any module whose parts can be initialised in one of these two ways.
        seed: The same seed gives the same twin.
        keep_embeddings: Keep the weights of every `nn.Embedding`, which leaves what the trained
            model knows of single words, and takes away what its layers do with them.

    Raises:
        ValueError: parameters that nothing knows how to initialise, named; or `keep_embeddings`
            in a model without any `nn.Embedding`.
    """
    twin = copy.deepcopy(model)
    stuck: list[str] = []
    with _own_randomness(model, seed), torch.no_grad():
        _reset(twin, "", stuck)
    if stuck:
        names = ", ".join(stuck[:8]) + (", ..." if len(stuck) > 8 else "")
        raise ValueError(
            f"cannot initialise {names} of {type(model).__name__}: their modules have no "
            "reset_parameters(); define it, or build the untrained model yourself and extract it"
        )
    if keep_embeddings:
        _keep_embeddings(model, twin)
    return twin


def _reset(module: nn.Module, path: str, stuck: list[str]) -> None:
    """Initialise `module` and all below it; `stuck` collects the parameters that cannot be."""
    if _is_transformers(module):
        # A new instance is the only way to run a class' whole initialisation: scaled residual
        # projections, tied weights, and flags that keep loaded weights from being touched.
        module.load_state_dict(type(module)(copy.deepcopy(module.config)).state_dict())
        return
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    own = [name for name, _ in module.named_parameters(recurse=False)]
    if reset is not None:
        reset()
    elif own:
        stuck.extend(f"{path}.{name}".lstrip(".") for name in own)
    for name, child in module.named_children():
        _reset(child, f"{path}.{name}".lstrip("."), stuck)


def _is_transformers(module: nn.Module) -> bool:
    import sys

    # A model of transformers cannot exist where transformers was never imported.
    library = sys.modules.get("transformers")
    return library is not None and isinstance(module, library.PreTrainedModel)


def _keep_embeddings(model: nn.Module, twin: nn.Module) -> None:
    pairs = zip(model.modules(), twin.modules(), strict=True)
    found = [
        (a, b) for a, b in pairs if isinstance(a, nn.Embedding) and isinstance(b, nn.Embedding)
    ]
    if not found:
        raise ValueError(f"keep_embeddings: {type(model).__name__} has no nn.Embedding to keep")
    with torch.no_grad():
        for trained, fresh in found:
            fresh.weight.copy_(trained.weight)


@contextmanager
def _own_randomness(model: nn.Module, seed: int) -> Iterator[None]:
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(d.index or 0 for d in devices)):
        torch.manual_seed(seed)
        yield
