"""CLUE: is a trace correct? Judged by how its hidden states changed, at all layers, by nearest centroid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from layerscope.probes.contrast.centroids import Metric, Score, balanced, rms
from layerscope.probes.contrast.clue_finding import COLUMNS, ClueFinding
from layerscope.probes.contrast.clue_trial import Trial
from layerscope.probes.contrast.traces import Traces, good_class, traces_of
from layerscope.probes.kinds.kind import Asked, SourceKind
from layerscope.probes.reading.labels import class_codes
from layerscope.probes.reading.sources import Layers, Source
from layerscope.probes.readouts.centroids import CentroidReadout
from layerscope.probes.scoring.provenance import provenance

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.store import Store

_UNEVEN = 0.75
"""Above this share of one side its centroid is notably the better known."""


@dataclass(frozen=True)
class CLUE(SourceKind):
    """Nearest centroid on hidden-state deltas; leaves one problem (group) out at a time."""

    name = "clue"
    rows = "tokens"
    whole_texts = True

    between: tuple[str, str] | None = None
    """Marks where a trace starts and ends, such as ``("<think>", "</think>")``; None: whole texts."""
    correct: Any = None
    """Which value of the label means correct; None takes True, 1, ``"correct"`` or the like."""
    metric: Metric = "euclidean"
    normalise: bool = False
    """Divide each layer by the root mean square of its deltas."""
    balance: bool = False
    """Build both centroids from equally many traces."""
    weights: tuple[float, ...] | None = None
    """Of the layers, in order; None weighs all alike."""
    score: Score = "margin"
    """What ranks: how much nearer the correct centroid is, or its closeness alone."""

    def __post_init__(self) -> None:
        if self.metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric must be 'euclidean' or 'cosine', got {self.metric!r}")
        if self.score not in ("margin", "closeness"):
            raise ValueError(f"score must be 'margin' or 'closeness', got {self.score!r}")

    def measure(self, source: Source, asked: Asked) -> ClueFinding:
        """Accuracy and ranking at each layer and at all together.

        Raises:
            ValueError: see `traces_of` and `centroids.distances`.
        """
        from tqdm.auto import tqdm

        traces = traces_of(source.store, asked, between=self.between, correct=self.correct)
        trial = Trial(
            traces,
            self.metric,
            self.normalise,
            self.balance,
            self.weights,
            self.score,
            asked.seed,
            asked.device,
        )

        def seen(sites: Sequence[str]) -> Any:
            return tqdm(sites, "clue", unit="site", disable=not asked.progress)

        lines = trial.lines(source.store, source.sites, source.twin, seen)
        return ClueFinding(
            table=_table(lines, traces, trial, self),
            provenance=provenance(source, self, asked, label=traces.plan.label),
            notes=(*source.store.notes, *traces.plan.notes, *_cautions(trial, lines)),
        )

    def deltas(
        self,
        store: Store,
        label: str | None = None,
        layer: Layers = "all",
        *,
        max_rows: int = 50_000,
        folds: int = 5,
        seed: int = 0,
    ) -> tuple[Tensor, Traces]:
        """``[traces, layers, width]`` of layers of one width, and the traces they belong to.

        Args:
            max_rows: Traces; above it, whole problems are left out at random.
            folds: At most as many as problems; both sides must be in every fold.
        """
        from layerscope.probes.reading.stored import stored_sites

        sites = stored_sites(store, layer)
        widths = {store.sites[site].width for site in sites}
        if len(widths) > 1:
            raise ValueError(f"layers of one width, please; these have {sorted(widths)}")
        asked = Asked(label=label, folds=folds, max_rows=max_rows, seed=seed)
        traces = traces_of(store, asked, between=self.between, correct=self.correct)
        return torch.stack([traces.delta(store, s, "cpu") for s in sites], 1), traces

    def fit(
        self, deltas: Tensor, correct: Sequence[Any] | Any, *, seed: int = 0
    ) -> CentroidReadout:
        """The frozen centroids of all traces.

        Args:
            deltas: ``[traces, layers, width]``
            correct: ``[traces]`` booleans, as `Traces.correct`; or two values, of which the option
                `correct` says what means correct, as it does for a label.

        Raises:
            ValueError: not two values, or which of them means correct is not said.
        """
        _, codes, classes = class_codes(correct, "class", "correct")
        if len(classes) != 2 or len(codes) != len(deltas):
            raise ValueError(
                f"correct must have two values, one per trace: got {len(classes)} values for "
                f"{len(codes)} of {len(deltas)} traces"
            )
        given = all(isinstance(value, bool) for value in classes)
        good = 1 if given else good_class((classes[0], classes[1]), self.correct, "label", [])
        codes, classes = codes == good, (classes[1 - good], classes[good])
        used = balanced(codes, seed=seed) if self.balance else np.ones(len(codes), bool)
        sides = [torch.from_numpy(used & (codes == number)) for number in (0, 1)]
        centroids = [
            deltas[side.to(deltas.device)].double().mean(0).float().cpu() for side in sides
        ]
        scale = [rms(layer) if self.normalise else 1.0 for layer in deltas.unbind(1)]
        weights = [1.0] * deltas.shape[1] if self.weights is None else list(self.weights)
        return CentroidReadout(
            centroids=torch.stack(centroids, 1),
            scale=torch.tensor(scale),
            weights=torch.tensor(weights) / sum(weights),
            metric=self.metric,
            classes=classes,
        )


def _table(lines: list[dict[str, Any]], traces: Traces, trial: Trial, kind: CLUE) -> pd.DataFrame:
    import pandas as pd

    shared = {
        "label": traces.plan.label,
        "n": len(traces.correct),
        "n_groups": trial.bootstrap.count,
        "unit": "accuracy",
        "estimator": f"nearest centroid of deltas, {kind.metric}, other problems",
    }
    table = pd.DataFrame([shared | line for line in lines])
    for column in ("layer", "width", "k"):
        if column in table:
            table[column] = table[column].astype("Int64")
    return table[[column for column in COLUMNS if column in table]]


def _cautions(trial: Trial, lines: list[dict[str, Any]]) -> list[str]:
    how = "within problems" if trial.within else "over all traces"
    notes = [f"labels permuted {how}, 20 times; states as they are, neither centred nor scaled"]
    if trial.normalise:
        notes[0] = f"labels permuted {how}, 20 times; each layer divided by its root mean square"
    same = [line["site"] for line in lines if isnan(line["value"])]
    if same:
        notes.append(
            f"at {', '.join(same)} all traces change alike, because they start and end with the same "
            "tokens: nothing can be told there"
        )
    line = next(line for line in lines if line["part"] == "all")
    if line["length"] >= line["value"] - 0.02:
        notes.append(
            f"the length of a trace alone scores {line['length']:.3f}, as much as all layers: compare "
            "auc_length, which ranks among traces of like length"
        )
    share = float(trial.traces.correct.mean())
    if not trial.balance and max(share, 1 - share) > _UNEVEN:
        notes.append(
            f"{share:.0%} of the traces are correct: the centroid of the rarer side is noisier, hence "
            "farther from everything, and the commoner side is chosen too often (see null_mean); "
            "CLUE(balance=True) builds both from equally many; auc compares traces instead of counting them"
        )
    if trial.bootstrap.count < 20:
        notes.append(
            f"intervals rest on {trial.bootstrap.count} problems only, and are likely too narrow"
        )
    return notes
