"""How often each label has each value: the table and the picture that describe data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MOST_VALUES = 20
"""Values of a label that get a line of their own; the rest share one."""
BINS = 10
NONE = "(none)"
OTHERS = " other values)"


def lines(counts: Mapping[str, Counter[Any]], total: int) -> list[dict[str, Any]]:
    """One line per label and value, the most frequent first.

    Args:
        counts: For each label how often each value occurs; None counts what has no value.
        total: What a share of 1 is.

    Returns:
        ``label``, ``value`` (in words), ``count`` and ``share``. Values beyond the twentieth are
        one line; numbers with many values are binned, in their own order.
    """
    return [
        {"label": label, "value": value, "count": count, "share": count / max(total, 1)}
        for label, counter in counts.items()
        for value, count in _shown(counter)
    ]


def leading(table: pd.DataFrame) -> str:
    """The most frequent value of the first label that has few, as a sentence; or nothing."""
    many = set(table.loc[table["value"].str.endswith(OTHERS), "label"])
    few = table[(table["value"] != NONE) & ~table["label"].isin(many)]
    return "".join(
        f" Most common {line.label}: {line.value} ({line.share:.1%})."
        for line in few.head(1).itertuples()
    )


def bars(table: pd.DataFrame) -> go.Figure:
    """One bar per label, cut into its values by share."""
    import plotly.graph_objects as go

    from layerscope.theme import COLORS, faded, plain

    nothing = faded(COLORS["other"], 0.15)
    ranks = table.groupby("label", sort=False).cumcount()
    figure = go.Figure()
    for rank, part in table.groupby(ranks):
        shade = faded(COLORS["value"], max(0.25, 0.95 - 0.12 * int(str(rank))))
        figure.add_bar(
            orientation="h",
            y=part["label"].map(plain),
            x=part["share"],
            text=part["value"].where(part["share"] >= 0.05, "").map(plain),
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            customdata=list(zip(part["value"].map(plain), part["count"], strict=True)),
            hovertemplate="%{y}: %{customdata[0]}<br>%{x:.1%}, %{customdata[1]:,}<extra></extra>",
            marker={"color": [nothing if v == NONE else shade for v in part["value"]]},
            showlegend=False,
        )
    return figure.update_layout(
        barmode="stack",
        bargap=0.25,
        height=110 + 34 * max(table["label"].nunique(), 1),
        xaxis={"title": {"text": "share"}, "tickformat": ".0%", "range": [0, 1]},
        yaxis={"autorange": "reversed"},
    )


def many(count: int, word: str) -> str:
    """``1 text``, ``2,001 texts``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _shown(counter: Counter[Any]) -> list[tuple[str, int]]:
    """(value in words, count) lines of one label."""
    missing = [(NONE, counter[None])] if counter[None] else []
    given = Counter(counter)
    del given[None]
    if len(given) <= MOST_VALUES:
        return [(str(value), count) for value, count in given.most_common()] + missing
    if all(isinstance(value, (int, float)) for value in given):
        return _binned(given) + missing
    common = given.most_common(MOST_VALUES)
    rest = given.total() - sum(count for _, count in common)
    other = (f"({len(given) - MOST_VALUES:,}{OTHERS}", rest)
    return [(str(value), count) for value, count in common] + [other] + missing


def _binned(given: Counter[Any]) -> list[tuple[str, int]]:
    import numpy as np

    counts, edges = np.histogram(list(given), BINS, weights=list(given.values()))
    return [
        (f"{low:.4g} to {high:.4g}", int(count))
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
        if count
    ]
