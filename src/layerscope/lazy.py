"""Packages that import what they offer when it is first used, so that opening them stays light."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import Any


def lazy(
    package: str, homes: Mapping[str, str], modules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that finds its public names when asked for them.

    A name may be that of its own submodule (`analyses.lens` holds `lens`): users get what it
    holds, also after the submodule itself was imported.

    Args:
        package: `__name__` of the package; its `__all__` is what `dir` lists.
        homes: Public name -> module that holds it, seen from the package: ``{"fit": ".fitting"}``.
        modules: Submodules that are public themselves.
    """
    made = sys.modules[package]
    vars(made)["_homes"] = homes
    made.__class__ = _LazyPackage

    def find(name: str) -> Any:
        if name in modules:
            return import_module(f".{name}", package)
        if name not in homes:
            raise no_attribute(package, name, [*homes, *modules])
        return getattr(import_module(homes[name], package), name)

    return find, lambda: [*made.__all__, *modules]


def no_attribute(package: str, name: str, there: Iterable[str]) -> AttributeError:
    """The error for a name that a package lacks, with the nearest that it has.

    Plain Python adds a suggestion of its own to a traceback, notebooks do not; so the message has
    it. `name` alone, without `obj`, keeps Python from adding it again.

    Args:
        package: The package that was asked.
        name: What it was asked for.
        there: The names it has; in a package inside it, with that before a dot.
    """
    known = {one.rpartition(".")[2]: one for one in there}
    words = set(name.lower().split("_"))
    near = get_close_matches(name.lower(), known, n=2, cutoff=0.7)
    within = [one for one in known if one in words]
    around = [one for one in known if name in one.split("_")]
    alike = list(dict.fromkeys([*within, *near, *around]))[:2]
    meant = " or ".join(repr(known[one]) for one in alike)
    hint = f"; did you mean {meant}?" if meant and not name.startswith("_") else ""
    return AttributeError(f"module {package!r} has no attribute {name!r}{hint}", name=name)


class _LazyPackage(ModuleType):
    _homes: Mapping[str, str]

    def __setattr__(self, name: str, value: Any) -> None:
        """Importing a submodule binds it on its package, where users look for what it holds."""
        if name in self._homes and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)
