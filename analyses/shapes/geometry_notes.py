"""What a reader of the table of `geometry` must know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from layerscope.analyses.shapes.geometry_finding import ROWS_PER_FEATURE

if TYPE_CHECKING:
    import pandas as pd

SATURATES = 15
SCALED = 0.25
"""TwoNN changes from all rows to a quarter of them by more than this share: worth a note."""
MASSIVE = 1000
"""Times the median absolute value, above which an activation is massive (Sun et al. 2024)."""
OUTLYING = 10
"""Times its even share of the squared activations, above which a dimension is an outlier."""


def cautions(
    table: pd.DataFrame, duplicates: Mapping[str, int], medians: Mapping[str, float], sampled: int
) -> list[str]:
    """Caveats that apply to this table."""
    notes = [*_rows(table), *_twonn(table, duplicates, sampled)]
    outliers = table[table["part"] == "outlier"]
    named = outliers["measure"] == "outlier"
    notes += _scales(table)
    return [*notes, *_outliers(outliers[named]), *_massive(outliers[~named], medians)]


def _rows(table: pd.DataFrame) -> list[str]:
    lines = table[table["part"] == "measure"]
    # Rows of zeros have no line of a measure, but some of other parts.
    n, width, groups = (int(table[c].max()) for c in ("n", "width", "n_groups"))
    notes = []
    if n < ROWS_PER_FEATURE * width:
        notes.append(
            f"{n:,} rows for {width:,} features: below ten rows a feature, effective and stable rank "
            "come out too low and the first direction too strong, as the columns null_mean and "
            "isotropic show; participation_ratio is corrected for it"
        )
    if groups < 2:
        notes.append("a single group: there are no intervals")
    elif groups < 20:
        notes.append(f"intervals rest on {groups} groups only, and are likely too narrow")
    flat = sorted(set(table["site"]) - set(lines.loc[lines["measure"] == "top_share", "site"]))
    if flat:
        notes.append(f"{', '.join(flat)}: all rows are equal, so there is no spectrum")
    ratio = lines[lines["measure"] == "participation_ratio"]
    odd = ratio[(ratio["value"] < 0) | (ratio["value"] > ratio["width"])]
    if len(odd):
        notes.append(
            f"participation ratio of {', '.join(odd['site'])}: outside 0 to the width, so there are too "
            "few rows to tell it from that of independent features"
        )
    return notes


def _twonn(table: pd.DataFrame, duplicates: Mapping[str, int], sampled: int) -> list[str]:
    lines, notes = table[table["part"] == "measure"], []
    found = {site: count for site, count in duplicates.items() if count}
    if found:
        told = ", ".join(f"{site} ({count:,})" for site, count in list(found.items())[:4])
        more = f" and {len(found) - 4} more sites" if len(found) > 4 else ""
        notes.append(f"TwoNN leaves out rows that equal an earlier one: {told}{more}")
    missing = sorted(set(table["site"]) - set(lines.loc[lines["measure"] == "twonn", "site"]))
    if missing:
        notes.append(f"no TwoNN dimension of {', '.join(missing)}: fewer than 100 different rows")
    high = lines[(lines["measure"] == "twonn") & (lines["value"] > SATURATES)]
    if len(high):
        notes.append(
            f"TwoNN falls behind above about {SATURATES} dimensions, so the true value at "
            f"{', '.join(high['site'].iloc[:4])}{' and more' if len(high) > 4 else ''} is higher; "
            "isotropic has what it gives for full dimension"
        )
    if int(table["n"].max()) > sampled:
        notes.append(f"TwoNN on {sampled:,} rows drawn at random, the same at every site")
    return notes


def _scales(table: pd.DataFrame) -> list[str]:
    """Where TwoNN on all rows and on a quarter of them differ: there is no one dimension."""
    whole = table[(table["part"] == "measure") & (table["measure"] == "twonn")].set_index("site")
    parts = table[table["part"] == "decimation"]
    if not len(parts):
        return []
    parts = parts[parts["n"] * 3 > parts["site"].map(whole["n"]).fillna(0) * 0.7]
    fewest = parts.sort_values("n").groupby("site").first()
    ratio = fewest["value"] / whole["value"].reindex(fewest.index)
    if not len(ratio) or not max(ratio.max(), 1 / ratio.min()) > 1 + SCALED:
        return []
    site = str(ratio.index[int(ratio.sub(1).abs().argmax())])
    return [
        (
            f"TwoNN depends on the scale: at {site} {whole['value'][site]:.1f} on "
            f"{whole['n'][site]:,} rows, {fewest['value'][site]:.1f} on {fewest['n'][site]:,}; rows that "
            "nearly repeat one another (the same token after the same words) make it small close by"
        ),
    ]


def _outliers(outliers: pd.DataFrame) -> list[str]:
    """Dimensions that hold far more than their share of the squared activations."""
    strong = outliers[outliers["second_moment"] * outliers["width"] > OUTLYING]
    if not len(strong):
        return []
    top = strong.sort_values("second_moment", ascending=False).iloc[0]
    dimensions = list(dict.fromkeys(strong["dimension"].astype(int)))
    return [
        (
            f"outlier dimensions {', '.join(map(str, dimensions[:6]))}: at {top['site']} dimension "
            f"{top['dimension']} holds {top['second_moment']:.0%} of the squared activations; cosines and "
            "distances lean on it, see cosine_without_1 to 3"
        )
    ]


def _massive(outliers: pd.DataFrame, medians: Mapping[str, float]) -> list[str]:
    ratio = outliers["largest"] / outliers["site"].map(medians).clip(lower=1e-300)
    if not len(ratio) or not ratio.max() > MASSIVE:
        return []
    top = outliers.iloc[int(ratio.argmax())]
    return [
        (
            f"massive activation at {top['site']}, dimension {top['dimension']}: {top['largest']:.3g}, "
            f"{ratio.max():,.0f} times the median absolute value"
        )
    ]
