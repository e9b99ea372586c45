"""The table of `concept_erasure`: every change beside what the controls change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerscope.analyses.erasing.concept_erasure_finding import (
    AS_GIVEN,
    COLUMNS,
    FEW_GROUPS,
    SCRUBBED,
)
from layerscope.analyses.erasing.decodable import L2, Held, Score
from layerscope.analyses.erasing.effects import Effects, Floats
from layerscope.analyses.erasing.erasers import Erased
from layerscope.analyses.erasing.scrubbing import Scrubbed
from layerscope.analyses.material.resampling import mean_intervals
from layerscope.hooks.sites import layer_of

if TYPE_CHECKING:
    import pandas as pd

UNITS = {"loss": "nats/token", "accuracy": "accuracy", "divergence": "nats/token"}


@dataclass
class Lines:
    """Collects the lines of the table, site by site."""

    held: Held
    own_loss: bool = False
    """The caller's function took the place of the loss on tokens."""
    found: list[dict[str, Any]] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)

    def decodable(
        self, site: str, method: str, erased: Erased, before: Score, scores: Sequence[Score]
    ) -> None:
        """A probe before and after; `scores` in the order of ``erased.all``."""
        draws = len(erased.random)
        changes = np.array([self.held.change(before, one)[0] for one in scores])
        value, low, high = self.held.change(before, scores[0])
        self.found.append(
            self._line("decodable", site, method, erased)
            | self._probe(before, scores[0])
            | {"value": value, "ci_low": low, "ci_high": high}
            | _controls(changes[1 : 1 + draws], changes[1 + draws :])
        )
        score = erased.eraser.about
        if method == "inlp" and not score.get("reached", True):
            self._notes.append(
                f"{site}: INLP stopped after {len(score['scores']) - 1} probes, the last one still "
                f"at {score['scores'][-1]:.3f}"
            )

    def rederived(self, step: Scrubbed) -> None:
        """What a probe finds again at a site while the sites below are erased."""
        first = next(
            line for line in self.found if line["part"] == "decodable" and line["site"] == step.site
        )
        whole, balanced = first["before"], first["balanced_before"]
        before = Score(whole, np.zeros(0), step.again.weights, balanced)
        line = self._line("rederived", step.site, SCRUBBED, step.erased)
        self.found.append(
            line
            | self._probe(before, step.again)
            | {"value": step.again.value - whole, "estimator": "sites below erased; linear probe"}
        )

    def used(
        self, site: str, method: str, erased: Erased, effects: Effects, part: NDArray[np.int64]
    ) -> None:
        """The model's own change; `part`: which erasures of the effects are ``erased.all``."""
        line = self._line("used", site, method, erased)
        self._add(line, effects, part, len(erased.random))

    def scrubbed(self, steps: Sequence[Scrubbed], effects: Effects) -> None:
        """All sites at once: the erasers, then as many draws of either control."""
        line = {
            "part": "used",
            "site": "all",
            "label": self.held.plan.label,
            "method": SCRUBBED,
            "rank": sum(step.erased.eraser.rank for step in steps),
            "width": sum(step.erased.eraser.width for step in steps),
            "removed": float(np.mean([step.erased.removed for step in steps])),
        }
        count = effects.erased.shape[2]
        self._add(line, effects, np.arange(count), (count - 1) // 2)

    def _add(
        self, line: dict[str, Any], effects: Effects, part: NDArray[np.int64], draws: int
    ) -> None:
        for s, scope in enumerate(effects.scopes):
            counts = effects.counts[s]
            if not counts.sum():
                continue
            for m, measure in enumerate(effects.measures):
                base = effects.base[s, m]
                change = effects.erased[s, m][part] - base
                self.found.append(
                    line
                    | {
                        "measure": measure,
                        "scope": scope,
                        "unit": AS_GIVEN if self.own_loss else UNITS[measure],
                    }
                    | _change(change, base, counts, draws, self.held.seed)
                    | {"estimator": "run with the eraser as an edit"}
                )

    def table(self) -> pd.DataFrame:
        """All lines, in the order of `COLUMNS`."""
        import pandas as pd

        table = pd.DataFrame(self.found)
        for column in ("layer", "rank", "width", "n", "n_groups"):
            table[column] = table[column].astype("Int64")
        return table[[column for column in COLUMNS if column in table]]

    def notes(self) -> list[str]:
        """What a reader must know."""
        plan, notes = self.held.plan, []
        train = len(plan.index) - self.held.cut
        widest = max(line["width"] for line in self.found if line["part"] == "decodable")
        notes.append(
            f"erasers are fitted on {train:,} rows; everything is measured on the groups held out. "
            f"The probe is trained afresh with penalty {L2:g} before and after"
        )
        if train < 10 * widest:
            notes.append(
                f"{train:,} rows for {widest:,} features: an eraser fitted on fewer than ten rows a "
                "feature leaves a part of the label in other rows"
            )
        groups = len(np.unique(plan.groups[: self.held.cut]))
        if groups < FEW_GROUPS:
            notes.append(
                f"intervals rest on {groups} held-out groups only, and are likely too narrow"
            )
        notes.append("what a nonlinear probe could still read is not erased")
        return notes + self._notes

    def _line(self, part: str, site: str, method: str, erased: Erased) -> dict[str, Any]:
        return {
            "part": part,
            "site": site,
            "layer": layer_of(site),
            "label": self.held.plan.label,
            "method": method,
            "rank": erased.eraser.rank,
            "width": erased.eraser.width,
            "removed": erased.removed,
        }

    def _probe(self, before: Score, after: Score) -> dict[str, Any]:
        plan = self.held.plan
        return {
            "measure": "accuracy" if plan.classes else "R2",
            "before": before.value,
            "after": after.value,
            "balanced_before": before.balanced,
            "balanced_after": after.balanced,
            "baseline": self.held.baseline,
            "n": self.held.cut,
            "n_groups": len(np.unique(plan.groups[: self.held.cut])),
            "unit": "accuracy" if plan.classes else "R2",
            "estimator": "multinomial logistic, L2" if plan.classes else "ridge",
        }


def _change(change: Floats, base: Floats, counts: Floats, draws: int, seed: int) -> dict[str, Any]:
    """Of sums ``[1 + 2 draws, groups]``: the change, and what is beyond the dearer control."""
    total = counts.sum()
    means = change.sum(1) / total
    kinds = [change[1 : 1 + draws], change[1 + draws : 1 + 2 * draws]]
    columns = [change[0]]
    if draws:
        average = [kind.mean(0) for kind in kinds]
        dearer = max(average, key=lambda one: float(one.sum()))
        columns.append(change[0] - dearer)
    there = counts > 0
    sums = np.stack(columns, axis=1)[there]
    low, high = mean_intervals(sums, counts[there], seed=seed)
    before = float(base.sum() / total)
    line = {
        "value": float(means[0]),
        "ci_low": float(low[0]),
        "ci_high": float(high[0]),
        "before": before,
        "after": before + float(means[0]),
        "n": int(total),
        "n_groups": int(there.sum()),
    }
    if draws:
        line |= {
            "beyond": float(columns[1].sum() / total),
            "beyond_low": float(low[1]),
            "beyond_high": float(high[1]),
        }
    return line | _controls(means[1 : 1 + draws], means[1 + draws : 1 + 2 * draws])


def _controls(null: Floats, matched: Floats) -> dict[str, float]:
    if not len(null):
        return {}
    return {
        "null_mean": float(null.mean()),
        "null_sd": float(null.std(ddof=1)),
        "matched_mean": float(matched.mean()),
        "matched_sd": float(matched.std(ddof=1)),
    }
