"""The finding of `clusters`: how clear clusters are at each site, and what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from layerscope.analyses.clustering.partitions import NAMES
from layerscope.finding import Finding
from layerscope.wording import known, place, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = (
    "part",
    "method",
    "site",
    "layer",
    "value",
    "ci_low",
    "ci_high",
    "null_mean",
    "null_sd",
    "clusters",
    "noise",
    "cluster",
    "stability",
    "commonest",
    "share",
    "words",
    "label",
    "n",
    "n_groups",
    "width",
    "unit",
    "estimator",
    "rank",
    "row",
    "left",
    "token",
    "right",
)
"""Order of the table's columns; docs/word_classes.md says what each one means."""
SCORES = ("silhouette", "stability", "agreement")


@dataclass(frozen=True)
class ClusterFinding(Finding):
    """Clusters found without labels at each site, with examples in context."""

    question: ClassVar[str] = "What lies together in the hidden states, without labels?"

    @property
    def methods(self) -> tuple[str, ...]:
        """``kmeans`` and ``hdbscan``, as far as they were asked for."""
        return tuple(self.table["method"].unique())

    def curve(self, score: str = "silhouette", method: str | None = None) -> pd.DataFrame:
        """Lines of one score by site; `method` None takes the first.

        Raises:
            ValueError: a score or method that is not in the table.
        """
        method = self.methods[0] if method is None else method
        there = [one for one in SCORES if (self.table["part"] == one).any()]
        if score not in there:
            raise ValueError(f"score is one of {', '.join(map(repr, there))}, not {score!r}")
        self._check(method)
        table = self.table
        return table[(table["part"] == score) & (table["method"] == method)].reset_index(drop=True)

    def clusters(self, site: str | int, method: str | None = None) -> pd.DataFrame:
        """The clusters at one site (or layer), largest first: size, words, silhouette, stability.

        Raises:
            LookupError: no clusters there.
        """
        return self._part("cluster", site, method)

    def examples(self, site: str | int, cluster: int, method: str | None = None) -> pd.DataFrame:
        """Words in context from one cluster, the nearest to its centre first.

        Raises:
            LookupError: there is no such cluster.
        """
        found = self._part("example", site, method)
        found = found[found["cluster"] == cluster]
        if not len(found):
            raise LookupError(f"there is no cluster {cluster} at {site!r}; .table lists them")
        return found[["rank", "row", "left", "token", "right"]].reset_index(drop=True)

    def _part(self, part: str, site: str | int, method: str | None) -> pd.DataFrame:
        method = self.methods[0] if method is None else method
        self._check(method)
        table = self.table[(self.table["part"] == part) & (self.table["method"] == method)]
        found = table[table["layer" if isinstance(site, int) else "site"] == site]
        if not len(found):
            there = ", ".join(table["site"].unique())
            raise LookupError(f"no clusters of {method} at {site!r}; there are some at: {there}")
        return found.dropna(axis="columns", how="all").reset_index(drop=True)

    def _check(self, method: str) -> None:
        if method not in self.methods:
            known = ", ".join(map(repr, self.methods))
            raise ValueError(f"method is one of {known} here, not {method!r}")

    def answer(self) -> str:
        """Where clusters are clearest, by each method."""
        return " ".join(self._told(method) for method in self.methods)

    def gist(self) -> str:
        """In one sentence."""
        lines = self.curve("silhouette").dropna(subset="value")
        if not len(lines):
            return "No two clusters are found at any layer."
        best = lines.iloc[int(lines["value"].argmax())]
        count = f"{best['clusters']} clusters at {place(best['site'])}"
        if not known(best["null_mean"]):
            return f"The rows lie most clearly in {count}: silhouette {best['value']:.2f} of 1; no control."
        if best["value"] <= best["null_mean"] + 2 * best["null_sd"]:
            return f"No clusters stand out: silhouette {best['value']:.2f}, shuffled features {best['null_mean']:z.2f}."
        return (
            f"The rows lie most clearly in {count}: silhouette {best['value']:.2f} of 1, shuffled features "
            f"{best['null_mean']:z.2f}."
        )

    def _told(self, method: str) -> str:
        lines = self.curve("silhouette", method).dropna(subset="value")
        if not len(lines):
            return f"{NAMES[method]} finds no two clusters at any site."
        best = lines.iloc[int(lines["value"].argmax())]
        steady = self.curve("stability", method)
        steady = steady[steady["site"] == best["site"]].iloc[0]
        spread = spoken(best["ci_low"], best["ci_high"], ".2f")
        null = (
            f"; shuffled features {best['null_mean']:.2f}"
            if best["null_mean"] == best["null_mean"]
            else ""
        )
        out = f" and {best['noise']:.0%} of the rows in none" if best["noise"] else ""
        stable = steady["value"]
        told = f"stability {stable:.2f}" if np.isfinite(stable) else "stability not known"
        return (
            f"By {NAMES[method]}, clusters are clearest at {best['site']}: {best['clusters']} of "
            f"them{out}, silhouette {best['value']:.2f}{spread}{null}, {told}; "
            f"{best['n']:,} rows in {best['n_groups']:,} groups."
        )

    def figure(self) -> go.Figure:
        """Silhouette and stability by layer; below, the clusters of one layer and their words."""
        from layerscope.analyses.clustering.clusters_figure import scores_and_clusters

        return scores_and_clusters(self)
