"""Gated MLPs: where the gate and the other factor of the product can be read, found by numbers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations

import torch
from torch import Tensor, nn

from layerscope.analyses.activity.counters import Who
from layerscope.analyses.activity.neuron_sources import Source
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.places import Tap, module_at
from layerscope.hooks.sites import layer_of, place_of

FUNCTIONS = ("torch.nn.modules.activation", "transformers.activations")
"""Where activation functions come from."""
ENOUGH = 64
"""Rows that must multiply out."""
NAMED = ".mlp_act"


class _Seen(Exception):
    """Enough rows were compared."""


def activations(model: nn.Module) -> dict[str, str]:
    """Path -> kind of every module that is an activation function, such as a ReLU."""
    others = (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax, nn.Softmax2d)
    return {
        name: type(module).__name__
        for name, module in model.named_modules()
        if name and type(module).__module__ in FUNCTIONS and not isinstance(module, others)
    }


def factors(model: nn.Module, sites: Sequence[str], source: Source) -> dict[str, tuple[str, str]]:
    """For each `mlp_act` that is a product of two module outputs: ``(gate, up)`` module paths.

    Modules inside the MLP are candidates; two are the factors if their outputs multiply to the
    site's own numbers. The gate is the one that has no weights (an activation function). Sites
    where no two modules do so are left out: MLPs without a gate, or with one computed in between.
    """
    inside = {site: _candidates(model, site) for site in sites if site.endswith(NAMED)}
    wanted = [*inside, *dict.fromkeys(path for paths in inside.values() for path in paths)]
    if not any(inside.values()):
        return {}
    seen: dict[str, Tensor] = {}

    def keep(site: str, rows: Tensor, who: Who) -> None:
        if site in seen:
            raise _Seen
        seen[site] = rows[:ENOUGH].detach().clone()

    with suppress(_Seen):
        source.feed(wanted, keep, progress=False)
    found = {}
    for site, paths in inside.items():
        pair = _pair(model, seen, site, paths)
        if pair is not None:
            found[site] = pair
    return found


def _candidates(model: nn.Module, site: str) -> list[str]:
    """Leaves beside the matrix that reads the site, in its MLP."""
    place, layer = place_of(model, site), layer_of(site)
    if not isinstance(place, Tap) or layer is None or place.call:
        return []
    found = anatomy(model)
    blocks = found.encoder if site.startswith("encoder.") else found.blocks
    path = blocks[layer].mlp or ""
    if path == place.path:  # the MLP is no module of its own
        path = place.path.rpartition(".")[0]
    leaves = module_at(model, path).named_modules(remove_duplicate=False)
    names = [f"{path}.{name}" for name, module in leaves if name and not any(module.children())]
    return [name for name in names if name != place.path]


def _pair(
    model: nn.Module, seen: dict[str, Tensor], site: str, paths: Sequence[str]
) -> tuple[str, str] | None:
    act = seen.get(site)
    if act is None or not bool(act.any()):
        return None
    same = [path for path in paths if path in seen and seen[path].shape == act.shape]
    for one, two in combinations(same, 2):
        error = (seen[one] * seen[two] - act).float().abs().amax()
        if error <= _tolerance(act.dtype) * act.float().abs().amax():
            weights = [any(True for _ in module_at(model, x).parameters()) for x in (one, two)]
            return (two, one) if weights == [True, False] else (one, two)
    return None


def _tolerance(dtype: torch.dtype) -> float:
    return 4 * torch.finfo(dtype).eps
