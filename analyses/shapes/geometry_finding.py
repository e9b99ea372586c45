"""The finding of `geometry`: how many dimensions each layer fills, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding
from layerscope.wording import place, rounded, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = (
    "part",
    "site",
    "layer",
    "measure",
    "rank",
    "dimension",
    "value",
    "ci_low",
    "ci_high",
    "null_mean",
    "null_sd",
    "isotropic",
    "twin",
    "twin_low",
    "twin_high",
    "second_moment",
    "largest",
    "n",
    "n_groups",
    "width",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/geometry.md says what each one means."""
ROWS_PER_FEATURE = 10


@dataclass(frozen=True)
class GeometryFinding(Finding):
    """Dimension, spectrum and anisotropy of the rows of every site."""

    question: ClassVar[str] = "How many dimensions do the rows of each layer fill, and how evenly?"

    def answer(self) -> str:
        """Range over the layers of dimension and mean cosine, with the site at each end."""
        first, told = self.table.iloc[0], _ratio(self.measure("participation_ratio"))
        twonn = self.measure("twonn")
        if len(twonn):
            told.append(f"TwoNN dimension {_range(twonn, '.1f')}")
        cosine = self.measure("cosine")
        if len(cosine):
            told.append(f"mean cosine of two rows {_range(cosine, '.2f')}")
        centred = self.measure("cosine_centred")
        if len(cosine) and len(centred):
            told[-1] += f" ({centred['value'].abs().max():.2f} at most without the mean)"
        text = "; ".join(told)
        return f"{text[0].upper()}{text[1:]}. {first['n']:,} rows in {first['n_groups']:,} groups."

    def gist(self) -> str:
        """In one sentence."""
        ratio = self.measure("participation_ratio")
        if not len(ratio):
            return "All rows are equal, so they fill no dimension."
        sure = ratio[~undecided(ratio)]
        if not len(sure):
            n, wide = int(ratio["n"].max()), _widths(ratio)
            return f"{n:,} rows are too few to tell how many of the {wide} dimensions they fill."
        low, high = (sure.loc[sure["value"].agg(which)] for which in ("idxmin", "idxmax"))
        said = f"{rounded(low['value'])} at {place(low['site'])}"
        if low["site"] != high["site"]:
            said += f" to {rounded(high['value'])} at {place(high['site'])}"
        left = "; elsewhere the rows are too few" if len(sure) < len(ratio) else ""
        return f"Of {_widths(sure)} dimensions the rows spread over about {said}{left}."

    def measure(self, name: str) -> pd.DataFrame:
        """One line per site of one measure; empty where it was not measured."""
        lines = self.table[self.table["part"] == "measure"]
        return lines[lines["measure"] == name]

    def spectrum(self, site: str) -> pd.DataFrame:
        """Share of the variance by rank at one site.

        Raises:
            LookupError: a site that was not measured; the message names those that were.
        """
        lines = self.table[(self.table["part"] == "spectrum") & (self.table["site"] == site)]
        if not len(lines):
            known = ", ".join(self.table["site"].unique())
            raise LookupError(f"no spectrum of {site!r}; there is one of {known}")
        return lines

    def decimation(self, site: str) -> pd.DataFrame:
        """TwoNN dimension at one site on ever fewer rows: column ``n``."""
        lines = self.table[self.table["site"] == site]
        whole = (lines["part"] == "measure") & (lines["measure"] == "twonn")
        return lines[whole | (lines["part"] == "decimation")].sort_values("n")

    def figure(self) -> go.Figure:
        """Dimensions and mean cosine by layer, each with its null, and the spectrum of every layer."""
        from layerscope.analyses.shapes.geometry_figure import panels

        return panels(self.table)


def undecided(ratio: pd.DataFrame) -> pd.Series[bool]:
    """Which participation ratios come from too few rows to be told.

    Fewer rows than features; or fewer than ten a feature, and an end of the interval is infinite or
    the value is not between 0 and the most that these rows could fill, n - 1.
    """
    ends = ratio[["ci_low", "ci_high"]]
    open_end = ends.isna().any(axis=1) | (ends.abs() == float("inf")).any(axis=1)
    open_end &= ratio["n_groups"] > 1
    most = (ratio["n"] - 1).clip(upper=ratio["width"])
    outside = (ratio["value"] < 0) | (ratio["value"] > most)
    few = ratio["n"] < ROWS_PER_FEATURE * ratio["width"]
    return (ratio["n"] < ratio["width"]) | (few & (open_end | outside))


def _ratio(ratio: pd.DataFrame) -> list[str]:
    """The participation ratio over the sites, or why there is none."""
    if not len(ratio):
        return ["all rows are equal, so they fill no dimension"]
    unsure = undecided(ratio)
    told, sure = [], ratio[~unsure]
    if len(sure):
        told.append(f"participation ratio {_range(sure, '.1f')} of {_widths(sure)} dimensions")
    if unsure.any():
        at = f" at {', '.join(ratio.loc[unsure, 'site'])}" if len(sure) else ""
        told.append(
            f"too few rows to tell how many dimensions they fill{at} (n = "
            f"{int(ratio['n'].max()):,}, D = {_widths(ratio[unsure])})"
        )
    return told


def _range(lines: pd.DataFrame, form: str) -> str:
    """The values at the least and at the largest site."""
    low, high = (lines.loc[lines["value"].agg(which)] for which in ("idxmin", "idxmax"))
    if low["site"] == high["site"]:
        return f"{_told(low, form)} at {low['site']}"
    return f"from {_told(low, form)} at {low['site']} to {_told(high, form)} at {high['site']}"


def _told(line: pd.Series[Any], form: str) -> str:
    return f"{line['value']:{form}}{spoken(line['ci_low'], line['ci_high'], form)}"


def _widths(lines: pd.DataFrame) -> str:
    widths = sorted({int(width) for width in lines["width"]})
    return str(widths[0]) if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"
