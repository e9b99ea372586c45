"""The finding of `word_classes`: curves of separation by layer, and maps of the same states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding
from layerscope.wording import known, percent, place, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = (
    "part",
    "of",
    "site",
    "layer",
    "value",
    "ci_low",
    "ci_high",
    "null_mean",
    "null_sd",
    "p",
    "baseline",
    "floor",
    "relative",
    "intra",
    "inter",
    "twin",
    "twin_low",
    "twin_high",
    "label",
    "n",
    "n_groups",
    "n_classes",
    "width",
    "unit",
    "estimator",
    "method",
    "point",
    "x",
    "y",
    "row",
    "left",
    "token",
    "right",
    "next",
    "current",
)
"""Order of the table's columns; docs/word_classes.md says what each one means."""
MEASURES = ("gdv", "silhouette", "purity", "ari", "nmi", "fisher", "nc1")
_PLACES = ("point", "map", "trust")
_OF_PLACES = COLUMNS[COLUMNS.index("method") :]


@dataclass(frozen=True)
class WordClassFinding(Finding):
    """How far apart word classes lie at each site, with null, interval, twin and maps."""

    question: ClassVar[str] = "Do hidden states cluster by the class of the next word?"

    @property
    def scores(self) -> pd.DataFrame:
        """The measured lines, without the points of the maps."""
        found = self.table[~self.table["part"].isin(_PLACES)].reset_index(drop=True)
        return found[[column for column in found if column not in _OF_PLACES]]

    @property
    def kinds(self) -> tuple[str, ...]:
        """``next`` and ``current``, as far as they were measured."""
        return tuple(self.table["of"].dropna().unique())

    def curve(self, measure: str = "gdv", of: str | None = None) -> pd.DataFrame:
        """Lines of one measure by site; `of` None takes the first kind of class.

        Raises:
            ValueError: a measure or a kind that is not in the table; the message names those that are.
        """
        of = self.kinds[0] if of is None else of
        if measure not in MEASURES:
            raise ValueError(f"measure is one of {', '.join(map(repr, MEASURES))}, not {measure!r}")
        if of not in self.kinds:
            raise ValueError(f"of is one of {', '.join(map(repr, self.kinds))} here, not {of!r}")
        table = self.scores
        return table[(table["part"] == measure) & (table["of"] == of)].reset_index(drop=True)

    def map(self, site: str | int, method: str = "pca") -> pd.DataFrame:
        """The points at one site: ``x``, ``y``, their words and classes.

        Args:
            site: A site, or its layer (the embeddings are -1).

        Raises:
            LookupError: there is no such map; the message names those that there are.
        """
        places = self.table[self.table["part"] == "map"]
        column = "layer" if isinstance(site, int) else "site"
        here = places[(places[column] == site) & (places["method"] == method)]
        if not len(here):
            known = ", ".join(map(str, places["method"].unique())) or "none (maps=())"
            sites = ", ".join(map(str, places["site"].unique()))
            raise LookupError(f"no {method!r} map of {site!r}; maps: {known}; sites: {sites}")
        who = ["point", "row", "left", "token", "right", *self.kinds]
        points = self.table.loc[self.table["part"] == "point", who]
        found = here[["point", "x", "y"]].merge(points, on="point", validate="one_to_one")
        return found.reset_index(drop=True)

    def answer(self) -> str:
        """Where classes are furthest apart by GDV, and what that is to be held against."""
        counted = self.curve()
        return " ".join([*(self._told(kind) for kind in self.kinds), f"{self._counted(counted)}."])

    def gist(self) -> str:
        """In one sentence."""
        kind = self.kinds[0]
        lines = self.curve("gdv", kind)
        best = lines.iloc[int(lines["value"].argmin())]
        what = f"the class of the {kind} word"
        if best["value"] >= best["null_mean"] - 2 * best["null_sd"]:
            return f"States lie no further apart by {what} at any layer than with shuffled labels."
        against = f"shuffled labels {percent(best['null_mean'] / best['floor'])}"
        if "twin" in lines and known(best["twin"]):
            against = f"untrained {percent(best['twin'] / best['floor'])}, {against}"
        return (
            f"States lie apart most by {what} at {place(best['site'])}: {percent(best['relative'])} of the "
            f"most possible; {against}."
        )

    def _told(self, kind: str) -> str:
        lines = self.curve("gdv", kind)
        best = lines.iloc[int(lines["value"].argmin())]
        where = "are furthest apart at" if len(lines) > 1 else "lie apart at"
        null = f"{best['null_mean']:.4f}".replace("-0.0000", "0.0000")
        against = [f"{null} for shuffled labels (sd {best['null_sd']:.4f})"]
        first = lines[lines["layer"] == -1]
        if len(first) and best["site"] != first["site"].iloc[0]:
            against.insert(0, f"{first['value'].iloc[0]:.3f} at the embeddings")
        if "twin" in lines:
            against.insert(0, f"{best['twin']:.3f} in the untrained twin")
        spread = spoken(best["ci_low"], best["ci_high"], ".3f")
        return (
            f"By the {best['label']} of the {kind} word, states {where} {best['site']}: GDV "
            f"{best['value']:.3f}{spread}, {best['relative']:.0%} of the way to the floor of "
            f"{best['floor']:.2f}, against {', '.join(against)}."
        )

    def _counted(self, lines: pd.DataFrame) -> str:
        line: Any = lines.iloc[0]
        return f"{line['n']:,} words of {line['n_classes']} classes in {line['n_groups']:,} groups"

    def figure(self) -> go.Figure:
        """The map with a slider of layers, above the curve of a measure with null and twin."""
        from layerscope.analyses.clustering.word_class_figure import maps_and_curves

        return maps_and_curves(self)
