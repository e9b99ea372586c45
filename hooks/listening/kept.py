"""Tensors kept from one or several forward passes, by site."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from layerscope.hooks.places import AttentionTap, Place
from layerscope.hooks.sites import resolve


class Kept(Mapping[str, Tensor]):
    """Site -> tensor. Where several passes ran (`generate`), say which: `passes` or `joined`."""

    _absent = "no forward pass has reached {site!r} yet"

    def __init__(self, model: nn.Module, wanted: Mapping[str, Place]) -> None:
        # Weak, so that keeping the tensors does not keep the model.
        self._model = weakref.ref(model)
        self._title = type(model).__name__
        self._places = dict(wanted)
        self._kept: dict[str, dict[int, Tensor]] = {site: {} for site in wanted}

    def passes(self, site: int | str) -> list[Tensor]:
        """The tensors of `site`, one for each forward pass that reached it, in order."""
        return self._tensors(self._name(site))

    def joined(self, site: int | str) -> Tensor:
        """All passes of `site` along its positions, as one pass without a cache would give it.

        With a cache each pass brings the new positions only. Keys and values hold all positions so
        far, so the last pass has them all; rows of a pattern grow and are padded with zeros.

        Raises:
            ValueError: the passes do not fit together.
        """
        name = self._name(site)
        tensors = self._some(name)
        place = self._places[name]
        part = place.part if isinstance(place, AttentionTap) else None
        if part in ("k", "v"):
            return _last_of_growing(name, tensors)
        if part == "pattern":
            width = max(x.shape[-1] for x in tensors)
            tensors = [torch.nn.functional.pad(x, (0, width - x.shape[-1])) for x in tensors]
        axis = 2 if part in ("q", "pattern") else 1
        try:
            return torch.cat(tensors, axis)
        except (RuntimeError, IndexError):
            raise _misfit(name, tensors, f"do not join along positions (axis {axis})") from None

    def __getitem__(self, site: int | str) -> Tensor:
        name = self._name(site)
        tensors = self._some(name)
        if len(tensors) > 1:
            raise LookupError(
                f"{len(tensors)} forward passes reached {name!r}: .passes({name!r}) lists its "
                f"tensors, .joined({name!r}) puts them together along positions"
            )
        return tensors[0]

    def __contains__(self, site: object) -> bool:
        name = self._find(site) if isinstance(site, (int, str)) else None
        return name is not None and bool(self._kept[name])

    def __iter__(self) -> Iterator[str]:
        return (site for site, tensors in self._kept.items() if tensors)

    def __len__(self) -> int:
        return sum(map(bool, self._kept.values()))

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} of {self._title}: {len(self)} of {len(self._kept)} sites"]
        wide = max(map(len, self._kept), default=0)
        for site, tensors in self._kept.items():
            shapes = [str(list(x.shape)) for x in tensors.values()]
            more = f" ... {len(shapes)} passes" if len(shapes) > 2 else ""
            dtype = f"{next(iter(tensors.values())).dtype}".removeprefix("torch.") if shapes else ""
            what = f"{', '.join(shapes[:2])}{more}  {dtype}" if shapes else "not reached"
            lines.append(f"  {site:<{wide}}  {what}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from layerscope.notebook import card, listing

        lines = []
        for site, tensors in self._kept.items():
            shapes = list(dict.fromkeys(str(list(x.shape)) for x in tensors.values()))
            more = " …" if len(shapes) > 2 else ""
            dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.") if shapes else ""
            lines.append((site, ", ".join(shapes[:2]) + more or "not reached", dtype, len(tensors)))
        return card(
            type(self).__name__,
            f"of {self._title}",
            [f"{len(self)} of {len(self._kept)} sites reached"],
            listing(("site", "shape", "dtype", "passes"), lines),
            after=f'seen["{next(iter(self._kept), "")}"]',
        )

    def _ipython_key_completions_(self) -> list[str]:
        """What Jupyter offers after ``seen["``."""
        return list(self)

    def _tensors(self, name: str) -> list[Tensor]:
        return [self._kept[name][index] for index in sorted(self._kept[name])]

    def _some(self, name: str) -> list[Tensor]:
        tensors = self._tensors(name)
        if not tensors:
            raise LookupError(self._absent.format(site=name))
        return tensors

    def _name(self, site: int | str) -> str:
        name = self._find(site)
        if name is None:
            near = get_close_matches(str(site), self._kept) or list(self._kept)[:4]
            raise LookupError(f"{site!r} was not asked for; closest: {', '.join(near)}")
        return name

    def _find(self, site: int | str) -> str | None:
        """The asked-for site that `site` stands for (an int, say), if there is exactly one."""
        model = self._model()
        if site in self._kept or model is None:
            return str(site) if site in self._kept else None
        try:
            names = resolve(model, site)
        except LookupError:
            return None
        return names[0] if len(names) == 1 and names[0] in self._kept else None


def _last_of_growing(site: str, tensors: list[Tensor]) -> Tensor:
    lengths = [x.shape[2] for x in tensors]
    if sorted(set(lengths)) != lengths:
        raise _misfit(site, tensors, "are not of one growing cache")
    return tensors[-1]


def _misfit(site: str, tensors: Sequence[Tensor], why: str) -> ValueError:
    shapes = ", ".join(str(list(x.shape)) for x in tensors[:4])
    return ValueError(f"the passes of {site!r} {why}: {shapes}; .passes({site!r}) lists them")
