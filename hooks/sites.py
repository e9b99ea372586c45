"""Site names: what a user writes, the canonical names it stands for, and where each is found.

A site is one of the fixed names (`blocks.3.resid_post`, `embed`, `logits`, ...) or any module path,
with `:in` for what enters that module. Only the fixed names ask for the anatomy, which may run the
model once; a module path never runs anything.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import SupportsIndex

from torch import nn

from layerscope.hooks.anatomy import Anatomy, anatomy
from layerscope.hooks.places import (
    AttentionTap,
    Difference,
    Place,
    Tap,
    module_at,
    pick,
    pick_input,
)

__all__ = [
    "AttentionTap",
    "Difference",
    "Place",
    "Tap",
    "layer_of",
    "module_at",
    "pick",
    "pick_input",
    "place_of",
    "resolve",
]

_NAMED = re.compile(r"(encoder\.)?(embed|norm|logits|blocks\.(?P<index>[^.]+)\.(?P<part>[^.]+))")

Layers = int | str | Sequence[int | str]


def require_module(model: object) -> None:
    """Refuse what is no model.

    Raises:
        TypeError: it is none, such as the name of one.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"a model is a torch module, got {type(model).__name__}; load_model(name) makes one of a "
            "folder or a hub name"
        )


def resolve(model: nn.Module, layers: Layers) -> tuple[str, ...]:
    """The canonical sites that `layers` stands for: forward order, no duplicates.

    Args:
        layers: an int (`3` is `blocks.3.resid_post`; negatives count from the end), a site, a
            module path (`path:in` for its input), a pattern whose `*` stands for anything between
            two dots (`blocks.*.mlp_out`), a list of these, or `"all"` (every `resid_post`).

    Raises:
        IndexError: a block number the model does not have.
        LookupError: an unknown site or module; the message names the closest.
        TypeError: something that is neither a number nor a string; or a model that is no module.
        ValueError: an empty list.
    """
    require_module(model)
    asked = (
        list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else [layers]
    )
    if not asked:
        raise ValueError("no layers asked for: give an int, a site, a pattern, a list, or 'all'")
    found = dict.fromkeys(site for one in asked for site in _resolve_one(model, one))
    return tuple(_ordered(model, found))


def place_of(model: nn.Module, site: str) -> Place:
    """Where the tensor of one canonical site is.

    Raises:
        LookupError: the model has no such site or module; the message names the closest.
    """
    if _NAMED.fullmatch(site):
        found = anatomy(model).sites.get(site)
        if found is not None:
            return found
    path, _, side = site.partition(":")
    if side not in ("", "in") or not _is_path(model, path):
        raise _unknown(model, site)
    return Tap(path, "in" if side else "out")


def layer_of(site: str) -> int | None:
    """The block number in a site's name; -1 for `embed`; None for norm, logits and module paths."""
    named = _NAMED.fullmatch(site)
    if named is None:
        return None
    if named["index"] is None:
        return -1 if named[2] == "embed" else None
    return int(named["index"]) if re.fullmatch(r"-?\d+", named["index"]) else None


def _resolve_one(model: nn.Module, one: int | str) -> Iterable[str]:
    if isinstance(one, bool) or not isinstance(one, (SupportsIndex, str)):
        raise TypeError(f"a layer is an int or a string, got {type(one).__name__} {one!r}")
    if not isinstance(one, str):  # numpy's integers are numbers too
        return [
            f"blocks.{_block_number(model, operator.index(one), operator.index(one))}.resid_post"
        ]
    if one == "all":
        _block_number(model, 0, "all")
        return [f"blocks.{block.index}.resid_post" for block in anatomy(model).blocks]
    named = _NAMED.fullmatch(one)
    if named is not None:
        if one in anatomy(model).sites:
            return [one]
        found = _matching_sites(model, one, named)
        if found:
            return found
    return _matching_paths(model, one)


def _matching_sites(model: nn.Module, asked: str, named: re.Match[str]) -> list[str]:
    index = named["index"]
    if index is not None and re.fullmatch(r"-\d+", index):
        number = _block_number(model, int(index), asked, encoder=bool(named[1]))
        asked = f"{named[1] or ''}blocks.{number}.{named['part']}"
    return [site for site in anatomy(model).sites if _matches(site, asked)]


def _matching_paths(model: nn.Module, asked: str) -> list[str]:
    path, _, side = asked.partition(":")
    suffix = f":{side}" if side else ""
    known = [name for name, _ in model.named_modules(remove_duplicate=False)]
    found = [f"{name}{suffix}" for name in known if _matches(name, path)]
    if not found or side not in ("", "in"):
        raise _unknown(model, asked)
    return found


def _matches(name: str, pattern: str) -> bool:
    """Equal dot by dot, where `*`, `?` and `[...]` stay between two dots."""
    ours, theirs = name.split("."), pattern.split(".")
    return len(ours) == len(theirs) and all(map(fnmatchcase, ours, theirs))


def _block_number(model: nn.Module, number: int, asked: int | str, *, encoder: bool = False) -> int:
    found = anatomy(model)
    count = len(found.encoder if encoder else found.blocks)
    if count == 0:
        raise LookupError(
            f"layer {asked!r} asked, but no stack of blocks was found in {type(model).__name__}; "
            "name modules by their path, for instance one of "
            f"{', '.join(repr(path) for path in found.modules[:5]) or 'named_modules()'}"
        )
    if not -count <= number < count:
        there = (
            f"{count} blocks: 0 to {count - 1}, or {-count} to -1" if count > 1 else "one block: 0"
        )
        raise IndexError(
            f"layer {asked!r} asked; {type(model).__name__} has {there}; "
            "other places are named by module path"
        )
    return number % count


def _is_path(model: nn.Module, path: str) -> bool:
    return any(name == path for name, _ in model.named_modules(remove_duplicate=False))


def _ordered(model: nn.Module, sites: Iterable[str]) -> list[str]:
    """Named sites in forward order, then module paths in the order of `named_modules()`."""
    sites = list(sites)
    if len(sites) == 1:
        return sites
    fixed = list(anatomy(model).sites) if any(_NAMED.fullmatch(s) for s in sites) else []
    paths = [name for name, _ in model.named_modules(remove_duplicate=False)]
    rank = {site: i for i, site in enumerate(fixed)}
    for i, path in enumerate(paths):
        rank.setdefault(f"{path}:in", len(fixed) + 2 * i)
        rank.setdefault(path, len(fixed) + 2 * i + 1)
    return sorted(sites, key=rank.__getitem__)


def _unknown(model: nn.Module, site: str) -> LookupError:
    paths = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    meant = _meant(model, site)
    if meant is not None:
        return LookupError(f"no site or module {site!r} in {type(model).__name__}; {meant}")
    sites = _known_sites(model) if _NAMED.fullmatch(site) or "*" in site else []
    near = ", ".join(repr(x) for x in get_close_matches(site, [*sites, *paths], n=4, cutoff=0.4))
    hint = near or ", ".join(repr(x) for x in (*sites[:3], *paths[:3])) or "none"
    return LookupError(
        f"no site or module {site!r} in {type(model).__name__}; closest: {hint}; "
        "print(anatomy(model)) lists every site"
    )


def _meant(model: nn.Module, site: str) -> str | None:
    """The way to write it here, of a number as text, of a part alone, and of TransformerLens' names."""
    if re.fullmatch(r"-?\d+", site):
        return f"the block of this number is the int {int(site)}, without quotes"
    if "*" in site:
        return None
    known = _known_sites(model)
    parts = {name.rpartition(".")[2] for name in known if name.startswith("blocks.")}
    if site in parts:
        return f"of every block: 'blocks.*.{site}'; of one: 'blocks.0.{site}'"
    where, hook, part = site.rpartition("hook_")
    ours = ".".join([*where.split(".")[:2], part]) if where.startswith("blocks.") else part
    ours = "norm" if ours == "normalized" else ours
    return (
        f"did you mean {ours!r}? Names are those of TransformerLens without hook_"
        if (hook and ours in known)
        else None
    )


def _known_sites(model: nn.Module) -> list[str]:
    found: Anatomy = anatomy(model)
    return list(found.sites)
