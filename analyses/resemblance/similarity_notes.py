"""What a reader of the table of `similarity` must know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.analyses.measures.cca import ENOUGH

if TYPE_CHECKING:
    import pandas as pd

FAR = 0.1
"""A null mean above this is worth a note."""


def cautions(table: pd.DataFrame, max_rows: int, rows: int) -> list[str]:
    """Caveats that apply to this table."""
    notes = []
    if rows > max_rows:
        notes.append(f"{max_rows:,} of {rows:,} rows, drawn at random, the same everywhere")
    groups = int(table["n_groups"].max())
    if groups < 2:
        notes.append("a single group: there are no intervals")
    elif groups < 20:
        notes.append(f"intervals rest on {groups} groups only, and are likely too narrow")
    notes += [*_biased(table), *_few_rows(table)]
    empty = sorted(set(table.loc[table["value"].isna(), "site"]))
    if empty:
        notes.append(f"{', '.join(empty)}: nothing to compare where rows do not vary")
    notes.append(
        "nulls keep both clouds and put the rows of one in random order: they show the bias of few "
        "rows, not what architecture or shared inputs alone give; for that compare an untrained twin"
    )
    return notes


def _biased(table: pd.DataFrame) -> list[str]:
    high = table[
        (table["null_mean"] > FAR) & table["measure"].isin(["cka_biased", "svcca", "pwcca", "cca"])
    ]
    if not len(high):
        return []
    told = ", ".join(
        f"{name} {part['null_mean'].max():.2f}" for name, part in high.groupby("measure")
    )
    return [
        f"rows in random order already give up to {told}: too few rows to take these as they are"
    ]


def _few_rows(table: pd.DataFrame) -> list[str]:
    lines = table[
        table["measure"].isin(["svcca", "pwcca", "cca", "procrustes", "shape_angle", "ridge"])
    ]
    if not len(lines):
        return []
    width = int(lines[["width", "other_width"]].max().max())
    n = int(lines["n"].min())
    if n >= ENOUGH * width:
        return []
    return [
        (
            f"{n:,} rows for up to {width:,} features: below {ENOUGH} rows a feature, independent "
            "features correlate and overlap too (cca, procrustes); see null_mean"
        ),
    ]
