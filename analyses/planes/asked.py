"""What was asked of `information_plane`, as every estimator sees it."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from layerscope.analyses.training.training_run import TrainingRun

Resolution = int | float
"""A whole number cuts the range of the layer into so many; a fraction is a length in its units."""
Span = str | tuple[float, float]

Options = Mapping[str, Mapping[str, Any]]
"""Estimator -> options of its own."""
TAKES = {
    "noisy": ("draws", "points"),
    "lossy": ("encoder", "dims", "k", "max_rows", "epochs"),
}
"""Options of the functions of these names."""
BINS: tuple[Resolution, ...] = (5, 10, 30, 100, 300, 1000)
SIGMAS: tuple[Resolution, ...] = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Asked:
    """The choices of one call."""

    bins: tuple[Resolution, ...] = BINS
    span: Span = "run"
    """``"run"``: the range over all seeds and snapshots; ``"snapshot"``: of each network's layer at
    each snapshot, from 0; or the two ends."""
    sigmas: tuple[Resolution, ...] = SIGMAS
    kde_steps: int | None = 12
    kde_rows: int | None = 512
    draws: int = 3
    """Of shuffled labels."""
    seed: int = 0
    progress: bool = True
    options: Options = field(default_factory=dict)
    reach: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Site -> least and greatest value over all seeds and snapshots."""

    def __post_init__(self) -> None:
        for name, given in self.options.items():
            unknown = [one for one in given if one not in TAKES.get(name, ())]
            if unknown:
                known = (
                    ", ".join(TAKES.get(name, ())) or "none; its choices are arguments of the call"
                )
                raise TypeError(f"{name} has no option {', '.join(unknown)}; it takes {known}")
        for name in ("bins", "sigmas"):
            values = getattr(self, name)
            if not values or not all(value > 0 for value in values):
                raise ValueError(f"{name}={values!r}: give at least one number, all above 0")
        if isinstance(self.span, str):
            if self.span not in ("run", "snapshot"):
                raise ValueError(f'span={self.span!r}: "run", "snapshot", or (low, high)')
        elif not self.span[0] < self.span[1]:
            raise ValueError(f"span={self.span!r}: the low end comes first")
        if self.draws < 1:
            raise ValueError(f"draws={self.draws}: the null needs at least one shuffle")


def chosen_sites(run: TrainingRun, layer: int | str | Sequence[int | str]) -> tuple[str, ...]:
    """Sites of the run: ``"all"``, a number from the input (or, negative, from the output), a name,
    a pattern, or a list of these; in the order of the run.

    Raises:
        LookupError: a layer that the run does not have.
        TypeError: no run, such as its folder.
    """
    if not hasattr(run, "sites"):
        raise TypeError(
            f"a run is what training.recorded_run.open_run(folder) gives, got {type(run).__name__}"
        )
    return sites_among(run.sites, layer)


def sites_among(sites: Sequence[str], layer: int | str | Sequence[int | str]) -> tuple[str, ...]:
    """As `chosen_sites`, from the names alone."""
    wanted = [layer] if isinstance(layer, (int, str)) else list(layer)
    found = {site for one in wanted for site in _sites(sites, one)}
    return tuple(site for site in sites if site in found)


def _sites(sites: Sequence[str], layer: int | str) -> Sequence[str]:
    if layer == "all":
        return sites
    if isinstance(layer, int):
        if not -len(sites) <= layer < len(sites):
            raise LookupError(f"no layer {layer}; the run has {len(sites)}: {', '.join(sites)}")
        return [sites[layer]]
    found = [layer] if layer in sites else fnmatch.filter(sites, layer)
    if not found:
        raise LookupError(f"no layer {layer!r}; the run has {', '.join(sites)}")
    return found


def thinned(steps: Sequence[int], count: int | None) -> list[int]:
    """So many of the steps, the first and last among them, evenly in the logarithm of the step."""
    import numpy as np

    if count is None or count >= len(steps):
        return list(steps)
    if count < 2:
        return [steps[-1]]
    places = np.log1p(np.asarray(steps, dtype=float))
    wanted = np.linspace(places[0], places[-1], count)
    nearest = {int(np.abs(places - one).argmin()) for one in wanted}
    return [steps[place] for place in sorted(nearest)]
