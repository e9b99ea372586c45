"""Scalar mix: which layers a linear probe of a weighted mean of all layers chooses to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.kinds.kind import Asked, SourceKind
from layerscope.probes.mixing.layer_mix import fit_mix, moments, plain_mean
from layerscope.probes.mixing.layer_mix_finding import COLUMNS, LayerMixFinding
from layerscope.probes.mixing.mix_trial import MixTrial
from layerscope.probes.mixing.readings import Readings
from layerscope.probes.reading.labels import Task, class_codes
from layerscope.probes.reading.rows import plan
from layerscope.probes.reading.sources import Source
from layerscope.probes.readouts.layer_mix import LayerMixReadout
from layerscope.probes.scoring.provenance import provenance

if TYPE_CHECKING:
    import pandas as pd

STACK = 128_000_000
"""Numbers of all layers together that are held at once; more rows are left out, by group."""
_ALWAYS = (
    "every layer standardised on training rows before mixing; weights of a fold come from the other "
    "folds, which overlap, so their spread is less than that of fresh data"
)


@dataclass(frozen=True)
class ScalarMix(SourceKind):
    """Softmax weights over layers with a linear head, cross-validated by group."""

    name = "scalar_mix"

    l2: float | None = None
    """Penalty of the head; None takes what a probe of the plain mean of layers chooses, by fold."""
    concat: int = 2048
    """Features of all layers side by side, for comparison; wider layers give their first principal
    components. 0 leaves the comparison out."""

    def measure(self, source: Source, asked: Asked) -> LayerMixFinding:
        """Weights and scores.

        Raises:
            ValueError: fewer than two layers, layers of different widths, or see `rows.plan`.
        """
        store, sites = source.store, source.sites
        width = _one_width(store, sites)
        chosen = plan(
            store,
            asked.label,
            task=asked.task,
            pieces=asked.pieces,
            folds=asked.folds,
            max_rows=min(asked.max_rows, STACK // (width * len(sites))),
            seed=asked.seed,
        )
        readings = Readings(
            chosen, chosen.types if asked.control else None, asked.solver, asked.device, asked.seed
        )
        trial = MixTrial(readings, self.l2, self.concat, asked.progress)
        lines = trial.lines(source)
        return LayerMixFinding(
            table=_table(lines, readings),
            provenance=provenance(source, self, asked, label=chosen.label, task=chosen.task),
            notes=(*store.notes, *chosen.notes, *_cautions(trial, sites, lines)),
        )

    def fit(
        self,
        x: Tensor,
        y: Sequence[Any] | Tensor,
        *,
        sites: Sequence[str] = (),
        groups: Sequence[Any] | NDArray[Any] | None = None,
        task: Task | None = None,
        folds: int = 5,
        seed: int = 0,
    ) -> LayerMixReadout:
        """The readout of ``[rows, layers, width]``, trained on all rows.

        Where the kind has no penalty, it is the one that a probe of the plain mean of layers chooses.

        Args:
            y: ``[rows]`` classes or numbers.
            sites: Names of the layers, in order.
            groups: ``[rows]`` what must not straddle a split when the penalty is chosen; None: each
                row is its own group.
            task: ``"class"`` or ``"number"``; None decides by the values, as `probe` does.
            folds: Of the rows, to choose the penalty.
            seed: Of the folds.

        Raises:
            ValueError: not one label for each stack of layers, or see `fitting.fit`.
        """
        if x.ndim != 3 or len(x) != len(y):
            raise ValueError(
                f"x must be [rows, layers, width] with one label a row, got {list(x.shape)} and {len(y)}"
            )
        found, values, classes = class_codes(y, task)
        stack = x.float().transpose(0, 1).contiguous()
        penalty = self.l2
        if penalty is None:
            plain = plain_mean(stack, *moments(stack))
            penalty = _penalty(plain, y, groups=groups, task=found, folds=folds, seed=seed)
        target = torch.from_numpy(values)
        mix = fit_mix(stack, target.to(x.device), classes=len(classes), l2=penalty)
        return LayerMixReadout(
            weights=mix.weights.cpu(),
            mean=mix.mean.cpu(),
            scale=mix.scale.cpu(),
            head=mix.head[:, :-1].contiguous().cpu(),
            bias=mix.head[:, -1].contiguous().cpu(),
            classes=classes,
            sites=tuple(sites),
            l2=penalty,
        )


def _penalty(x: Tensor, y: Any, **how: Any) -> float:
    """What a linear probe of these rows chooses by folds."""
    from layerscope.probes.fitting import fit

    linear: Any = fit(x, y, **how)
    return float(linear.l2)


def _one_width(store: Any, sites: Sequence[str]) -> int:
    widths = {site: store.sites[site].width for site in sites}
    if len(sites) < 2:
        raise ValueError(f"a mix needs two layers or more, and {sites[0]} is one; give layer='all'")
    if len(set(widths.values())) > 1:
        odd = ", ".join(f"{site} {width}" for site, width in list(widths.items())[:6])
        raise ValueError(f"only layers of one width can be mixed; these have {odd}")
    return int(widths[sites[0]])


def _table(lines: list[dict[str, Any]], readings: Readings) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame([line | readings.shared() for line in lines])
    for column in ("layer", "width"):
        table[column] = table[column].astype("Int64")
    return table[[column for column in COLUMNS if column in table]]


def _cautions(trial: MixTrial, sites: Sequence[str], lines: list[dict[str, Any]]) -> list[str]:
    notes = [_ALWAYS]
    if trial.reduced:
        notes.append(
            f"for the comparison with all layers side by side, each gives its first "
            f"{trial.reduced} principal components"
        )
    mix = next(line for line in lines if line["part"] == "mix")
    if mix["gain_low"] <= 0:
        notes.append("the mix is not reliably better than the best single layer")
    if np.ptp([line["weight"] for line in lines if line["part"] == "layer"]) < 0.5 / len(sites):
        notes.append("the weights are nearly equal: no layer is preferred")
    notes.append(
        "a weight says what this probe reads beside the other layers, not what a layer knows"
    )
    return notes
