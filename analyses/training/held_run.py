"""`held_run`: a training run out of activations that are already in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from layerscope.analyses.training.row_labels import rows_of
from layerscope.analyses.training.synchrony import check_snapshots
from layerscope.analyses.training.training_run import TrainingRun

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldRun(TrainingRun):
    """What `held_run` returns."""

    snapshots: Mapping[int, Mapping[str, Tensor]]
    """Step -> site -> ``[seeds, rows, width]``."""

    def activations(self, step: int, site: str) -> Tensor:
        self.check(step, site)
        return self.snapshots[step][site]


def held_run(
    snapshots: Mapping[int, Mapping[str, Any]],
    labels: Any,
    *,
    inputs: Tensor | None = None,
    groups: Any = None,
    classes: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    name: str = "held run",
    clock: str = "step",
    noise: str = "",
    scores: pd.DataFrame | None = None,
) -> HeldRun:
    """A run from ``{step: {site: activations}}``.

    Examples:
        >>> x = torch.rand(4, 3)
        >>> run = held_run({0: {"hidden": x}, 10: {"hidden": x.tanh()}}, labels=[0, 1, 0, 1])
        >>> run.activations(10, "hidden").shape
        torch.Size([1, 4, 3])

    Args:
        snapshots: Tensors or arrays ``[rows, width]``, or ``[seeds, rows, width]``; sites in forward
            order.
        labels: ``[rows]`` whole numbers or names.
        inputs: ``[rows, ...]``: what the networks were given; None where it is not a vector.
        groups: ``[rows]``: equal where rows belong together.
        classes: What the numbers in `labels` stand for.
        seeds: The seed of each network; None counts them.
        noise: The noise inside the networks, in words; empty for deterministic ones.
        scores: Columns seed, step, split, loss, accuracy.

    Raises:
        ValueError: no snapshots, sites, rows or seeds that differ between steps, rows that do not fit
            the labels, or activations that are NaN or infinite (named with step, site and row).
    """
    rows = rows_of(labels, inputs=inputs, groups=groups, classes=classes)
    kept = {
        int(step): {site: _stacked(x, int(step), site) for site, x in sites.items()}
        for step, sites in sorted(snapshots.items())
    }
    check_snapshots({s: {k: tuple(x.shape) for k, x in sites.items()} for s, sites in kept.items()})
    first = next(iter(kept.values()))
    networks = {site: len(x) for site, x in first.items()}
    if len(set(networks.values())) > 1:
        raise ValueError(f"sites have different numbers of networks: {networks}")
    count = next(iter(networks.values()))
    for site, x in first.items():
        if x.shape[1] != len(rows):
            raise ValueError(f"{site} has {x.shape[1]:,} rows, but there are {len(rows):,} labels")
    chosen = tuple(range(count)) if seeds is None else tuple(int(one) for one in seeds)
    if len(chosen) != count or len(set(chosen)) != count:
        raise ValueError(f"there are {count} networks, but seeds {chosen}; give each its own")
    return HeldRun(
        name=name,
        rows=rows,
        steps=tuple(kept),
        seeds=chosen,
        sites=tuple(first),
        clock=clock,
        noise=noise,
        scores=scores,
        snapshots=kept,
    )


def _stacked(x: Any, step: int, site: str) -> Tensor:
    tensor = torch.as_tensor(x).detach().float()
    if tensor.ndim not in (2, 3):
        raise ValueError(
            f"{site} at step {step} has shape {list(tensor.shape)}; give [rows, width], or "
            "[seeds, rows, width]"
        )
    tensor = tensor if tensor.ndim == 3 else tensor[None]
    check_finite(tensor, step, site)
    return tensor


def check_finite(x: Tensor, step: int, site: str) -> None:
    """Refuse ``[..., rows, width]`` with NaN or infinite values.

    Raises:
        ValueError: with step, site and the first such row.
    """
    bad = (~x.isfinite()).any(-1)
    if bool(bad.any()):
        row = int(bad.reshape(-1, x.shape[-2]).any(0).nonzero()[0, 0])
        raise ValueError(f"{site} is NaN or infinite at step {step}, row {row}")
