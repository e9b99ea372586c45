"""The finding of `mutual_information`: what is believed, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.analyses.information.verdict import NOTHING
from layerscope.finding import Finding
from layerscope.wording import called, place, rounded, shortened, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class MutualInformationFinding(Finding):
    """Estimates of the mutual information of two variables, and which of them are believed."""

    question: ClassVar[str] = "How much does one of them tell about the other?"

    def answer(self) -> str:
        """The verdict with its number, interval, null and n; over sites, the least and the most."""
        sites = self.sites
        if len(sites) == 1:
            return _one(self.table)
        return _many(self.table, sites)

    def gist(self) -> str:
        """In one sentence."""
        sites = self.sites
        return _short(self.table) if len(sites) == 1 else _range(self.table, sites)

    @property
    def sites(self) -> pd.DataFrame:
        """One line for each site: verdict, its value and interval, and why."""
        shown = ["site", "layer", "verdict", "verdict_value", "verdict_low", "verdict_high"]
        return self.table.drop_duplicates("site")[[*shown, "reason", "n", "unit"]].reset_index(
            drop=True
        )

    @property
    def value(self) -> float:
        """What is believed, in the table's unit; NaN where nothing is. One site only.

        Raises:
            ValueError: several sites; see `sites`.
        """
        if len(self.sites) != 1:
            raise ValueError(f"{len(self.sites)} sites have a value each: look at finding.sites")
        return float(self.table["verdict_value"].iloc[0])

    @property
    def verdict(self) -> str:
        """``value``, ``unreliable``, ``proxy`` or ``refused``. One site only."""
        if len(self.sites) != 1:
            raise ValueError(f"{len(self.sites)} sites have a verdict each: look at finding.sites")
        return str(self.table["verdict"].iloc[0])

    def figure(self) -> go.Figure:
        """Every estimator with interval, null and ceiling; over sites, curves by layer."""
        from layerscope.analyses.information.information_figure import by_site, one_pair

        return one_pair(self.table) if len(self.sites) == 1 else by_site(self.table)


def _one(table: pd.DataFrame) -> str:
    first = table.iloc[0]
    unit, rows = first["unit"], f"{first['n']:,} rows"
    if first["verdict"] == "refused":
        return f"Refused: {first['reason']}."
    deciding = table[table["decides"]]
    if first["verdict"] == "unreliable":
        told = " and ".join(
            f"{line['title']} {line['value']:.2f}{spoken(line['ci_low'], line['ci_high'], '.2f')}"
            for _, line in deciding.iterrows()
        )
        return f"Unreliable: {told} {unit}; {first['reason']}. {rows}."
    low, high = first["verdict_low"], first["verdict_high"]
    number = f"{first['verdict_value']:.2f} {unit}{spoken(low, high, '.2f')}"
    nothing = str(first["reason"]).startswith(NOTHING)
    of = f" of H = {first['ceiling']:.2f}" if first["kind"] == "labels" else ""
    said = f"{'At least ' if of else ''}{number}{of}"
    if first["verdict"] == "proxy":
        return f"A proxy, not the mutual information: {number}. {first['reason']}. {rows}."
    null = deciding.iloc[0]
    mean = round(null["null_mean"], 2) + 0.0  # no "-0.00"
    beside = f"permuted pairs give {mean:.2f} ± {null['null_sd']:.2f}"
    if nothing:  # no number that could be believed comes first
        why = first["reason"].removeprefix(f"{NOTHING}: ")
        return f"{NOTHING.capitalize()}: {number}{of}; {beside}; {why}. {rows}."
    return f"{said}; {beside}; {first['reason']}. {rows}."


def _many(table: pd.DataFrame, sites: pd.DataFrame) -> str:
    estimated = table[table["value"].notna()]
    first = (estimated if len(estimated) else table).iloc[0]
    none = sites["reason"].str.startswith(NOTHING)
    sure = sites[(sites["verdict"] == "value") & ~none]
    told = []
    if len(sure):
        ends = [sure.loc[sure["verdict_value"].agg(which)] for which in ("idxmin", "idxmax")]
        least, most = (_at(end) for end in ends)
        told.append(f"From {least} to {most}")
        if first["kind"] == "labels":
            of = f" of {first['label']}" if first["label"] else ""
            told[-1] += f" of H{of} = {first['ceiling']:.2f} {first['unit']} (lower bounds)"
    for kind in (NOTHING, "unreliable", "refused", "proxy"):
        held = list(sites.loc[none if kind == NOTHING else sites["verdict"] == kind, "site"])
        if held:
            named = ", ".join(held[:4]) + (f" and {len(held) - 4} more" if len(held) > 4 else "")
            told.append(f"{kind} at {named}")
    text = "; ".join(told)
    return f"{text[0].upper()}{text[1:]}. {first['n']:,} rows in {first['n_groups']:,} groups."


def _at(line: pd.Series[Any]) -> str:
    around = spoken(line["verdict_low"], line["verdict_high"], ".2f")
    return f"{line['verdict_value']:.2f}{around} {line['unit']} at {line['site']}"


def _short(table: pd.DataFrame) -> str:
    first = table.iloc[0]
    unit, value = first["unit"], first["verdict_value"]
    reason = shortened(str(first["reason"]).replace("pair disagrees", "two estimates disagree"), 70)
    if first["verdict"] == "refused":
        return f"No number is given: {reason}."
    if first["verdict"] == "unreliable":
        return f"No number can be relied on: {reason}."
    if first["verdict"] == "proxy":
        return f"Only a stand-in, not the information itself: {rounded(value)} {unit}."
    null = table[table["decides"]].iloc[0]["null_mean"]
    against = f"shuffled pairs give {rounded(null) if abs(null) >= 0.005 else 0}"
    if str(first["reason"]).startswith(NOTHING):
        return f"Nothing is seen that one tells of the other: {rounded(value)} {unit}, {against}."
    least = "at least " if first["kind"] == "labels" else ""
    return f"One tells {least}{rounded(value)} {unit} about the other; {against}."


def _range(table: pd.DataFrame, sites: pd.DataFrame) -> str:
    none = sites["reason"].str.startswith(NOTHING)
    sure = sites[(sites["verdict"] == "value") & ~none]
    if not len(sure):
        kinds = ", ".join(dict.fromkeys(sites["verdict"].where(~none, "nothing seen")))
        return f"At none of {len(sites)} layers is there a number to rely on: {kinds}."
    low, high = (sure.loc[sure["verdict_value"].agg(which)] for which in ("idxmin", "idxmax"))
    first = table[table["value"].notna()].iloc[0]
    labels = first["kind"] == "labels"
    what = f"{called(first['label'])}" if labels and first["label"] else "the other"
    of = f" of {first['ceiling']:.2f}" if labels else ""
    left = f"; at {len(sites) - len(sure)} layers none is sure" if len(sure) < len(sites) else ""
    return (
        f"Layers tell {'at least ' if labels else ''}{low['verdict_value']:.2f} ({place(low['site'])}) "
        f"to {high['verdict_value']:.2f} {high['unit']} ({place(high['site'])}){of} about {what}{left}."
    )
