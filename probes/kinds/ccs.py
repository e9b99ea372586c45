"""Contrast-consistent search: truth as the direction along which two contrary endings differ.

No labels are used to find it; they only say how well what was found agrees with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Literal

import torch
from torch import Tensor

from layerscope.probes.contrast import consistency
from layerscope.probes.contrast.consistency import EPOCHS, RESTARTS, Found
from layerscope.probes.contrast.consistency_finding import ConsistencyFinding
from layerscope.probes.contrast.consistency_trial import Trial
from layerscope.probes.contrast.pairs import pairs_of
from layerscope.probes.kinds.kind import Asked, SourceKind
from layerscope.probes.reading.labels import class_codes
from layerscope.probes.reading.sources import Source
from layerscope.probes.readouts.linear import LinearReadout
from layerscope.probes.scoring.provenance import provenance
from layerscope.probes.solving.parallel import side_by_side

_ESTIMATORS = {
    "closed": "top principal component of centred differences (CRC-TPC)",
    "search": "contrast-consistent search",
}
_ALWAYS = (
    (
        "labels are not used to find the direction, but which of its ends means true is: accuracy "
        "is the larger of a and 1 - a, so chance lies above a half (null_mean)"
    ),
    "states are centred over each side, not scaled",
    (
        "what is found is the most salient feature that is opposite on the two sides; it need not "
        "be truth"
    ),
)


@dataclass(frozen=True)
class CCS(SourceKind):
    """Contrast-consistent search, or its closed form, on pairs of texts."""

    name = "ccs"
    rows = "texts:last"
    whole_texts = True

    method: Literal["closed", "search"] = "closed"
    """The top principal component of the differences, or the search of the paper."""
    pair: str = "pair"
    """Column that says which texts belong together."""
    side: str = "side"
    """Column that says which side of its pair a text is: two different values."""
    restarts: int = RESTARTS
    """Random beginnings of the search; the closed form is one more."""
    epochs: int = EPOCHS

    def __post_init__(self) -> None:
        if self.method not in ("closed", "search"):
            raise ValueError(f"method must be 'closed' or 'search', got {self.method!r}")

    def measure(self, source: Source, asked: Asked) -> ConsistencyFinding:
        """Agreement with the label at every site, cross-validated by group.

        Raises:
            LookupError: no columns of pairs and sides.
            ValueError: see `pairs_of` and `rows.plan`.
        """
        from tqdm.auto import tqdm

        pairs = pairs_of(source.store, asked, self.pair, self.side)
        trial = Trial(self.directions, pairs, asked)
        found = side_by_side(
            lambda site: trial.line(source, site), source.sites, item_bytes=trial.taken(source)
        )
        total = len(source.sites)
        shown = tqdm(found, "consistency", total, unit="site", disable=not asked.progress)
        lines = list(shown)
        if all(isnan(line["value"]) for line in lines):
            raise ValueError(
                "the two sides of every pair have the same states at all these sites: they end in the "
                "same token and no later layer was asked for; ask for layer='all'"
            )
        return ConsistencyFinding(
            table=trial.table(lines, _ESTIMATORS[self.method]),
            provenance=provenance(source, self, asked, label=pairs.plan.label),
            notes=(*source.store.notes, *pairs.plan.notes, *_cautions(lines)),
        )

    def directions(self, first: Tensor, second: Tensor, trains: Tensor, seed: int = 0) -> Found:
        """What is found on each of the training sets ``[fits, pairs]``."""
        fast = consistency.closed(first - second, trains)
        if self.method == "closed":
            return fast
        return consistency.search(
            first,
            second,
            trains,
            restarts=self.restarts,
            epochs=self.epochs,
            start=fast.direction,
            seed=seed,
        )

    def fit(
        self, first: Tensor, second: Tensor, labels: Sequence[Any] | None = None, *, seed: int = 0
    ) -> LinearReadout:
        """The readout of differences ``first - second``, each ``[pairs, width]``, of all pairs.

        Args:
            labels: ``[pairs]`` two classes; they only turn the direction, so that it agrees with
                the most of them. Without, its classes are ``"one end"`` and ``"other end"``.
        """
        first, second = first.float(), second.float()
        trains = torch.ones(1, len(first), dtype=torch.bool, device=first.device)
        found = self.directions(first, second, trains, seed)
        direction, classes = found.direction[0].cpu(), ("one end", "other end")
        if labels is not None:
            _, codes, given = class_codes(labels, "class", "labels")
            if len(given) != 2:
                raise ValueError(f"labels must have two classes, got {list(given)[:5]}")
            agrees = (found.scores(first - second)[0].cpu().numpy() > 0) == codes
            direction = direction if agrees.mean() >= 0.5 else -direction
            classes = (given[0], given[1])
        return LinearReadout(
            weight=torch.stack([-direction, direction]) / 2,
            bias=torch.zeros(2),
            mean=found.centre[0].cpu(),
            scale=torch.ones(len(direction)),
            classes=classes,
            about={"of": "differences between the sides of a pair", "method": self.method},
        )


def _cautions(lines: list[dict[str, Any]]) -> list[str]:
    notes = list(_ALWAYS)
    same = [line["site"] for line in lines if isnan(line["value"])]
    if same:
        notes.append(
            f"at {', '.join(same)} both sides have the same states, because they end in the same "
            "token: nothing can be told there"
        )
    lines = [line for line in lines if not isnan(line["value"])]
    best = max(lines, key=lambda line: line["value"])
    if best["value"] < best["null_mean"] + 2 * best["null_sd"]:
        notes.append("no site is better than permuted labels by more than two standard deviations")
    if best["supervised"] > best["value"] + 0.1:
        notes.append(
            f"a supervised probe on the same differences reaches {best['supervised']:.3f}: the label "
            "can be read there, and is not the most salient contrast"
        )
    if min(line["stability"] for line in lines) < 0.9:
        notes.append("at some sites the direction changes with the fold (stability below 0.9)")
    return notes
