"""What is in this store: the data section of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding, Provenance

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from layerscope.store.store import Store

MOST_LABELS = 12
MOST_VALUES = 20
BINS = 10
NONE = "(none)"
OTHERS = "other values)"


@dataclass(frozen=True)
class StoreFinding(Finding):
    """Sizes of a store and how its labels are distributed over its rows.

    The table has one line per label and value, the most frequent first: ``label``, ``value``,
    ``count`` (rows), ``share`` (of all rows). Values beyond the twentieth are one line, numbers
    with many values are binned, and rows without a value are counted last, as ``(none)``.
    """

    question: ClassVar[str] = "What is in this store?"

    def answer(self) -> str:
        size = self.provenance.parameters
        widths = " and ".join(f"{width:,}" for width in size["widths"])
        first = (
            f"{_many(size['rows'], 'row')} from {_many(size['sources'], size['source'])} in "
            f"{_many(size['groups'], 'group')}; {_many(size['sites'], 'site')} of width {widths} "
            f"in {size['dtype']}, {size['bytes'] / 1e6:,.1f} MB."
        )
        return f"{first} {self._answer_labels()}"

    def _answer_labels(self) -> str:
        if self.table.empty:
            return "The rows carry no labels."
        # A label of classes says more about the data than its words or numbers do.
        rest = self.table["value"].str.endswith(OTHERS)
        closed = self.table[~self.table["label"].isin(self.table["label"][rest])]
        top = next((closed if len(closed) else self.table).itertuples())
        count = _many(self.provenance.parameters["labels"], "label")
        return f"{count}; {top.label} is most often {top.value} ({top.share:.1%})."

    def figure(self) -> go.Figure:
        """One bar per label, cut into its values by share."""
        import plotly.graph_objects as go

        from layerscope.theme import plain

        figure = go.Figure()
        ranks = self.table.groupby("label", sort=False).cumcount()
        for rank in range(ranks.max() + 1 if len(ranks) else 0):
            part = self.table[ranks == rank]
            figure.add_bar(
                orientation="h",
                y=part["label"].map(plain),
                x=part["share"],
                text=part["value"].where(part["share"] >= 0.05, "").map(plain),
                textposition="inside",
                insidetextanchor="middle",
                insidetextfont={"color": [_ink(rank, value) for value in part["value"]]},
                textangle=0,
                constraintext="inside",
                customdata=list(zip(part["value"].map(plain), part["count"], strict=True)),
                hovertemplate="%{y} = %{customdata[0]}<br>%{x:.1%} of the rows, "
                "%{customdata[1]:,}<extra></extra>",
                marker={
                    "color": [_shade(rank, value) for value in part["value"]],
                    "line": {"width": 1, "color": "rgba(255, 255, 255, 0.6)"},
                },
                showlegend=False,
            )
        labels = self.table["label"].nunique()
        return figure.update_layout(
            barmode="stack",
            bargap=0.25,
            height=110 + 34 * max(labels, 1),
            xaxis={"title": {"text": "share of rows"}, "tickformat": ".0%", "range": [0, 1]},
            yaxis={"autorange": "reversed"},
        )


def _shade(rank: int, value: str) -> str:
    """Solid, so that the text on it reads the same in the light and in the dark dress."""
    from layerscope.theme import COLORS

    if value == NONE:
        return _lighter(COLORS["other"], 0.65)
    return _lighter(COLORS["value"], (0, 0.12, 0.24, 0.6, 0.68)[rank] if rank < 5 else 0.76)


def _ink(rank: int, value: str) -> str:
    return "#ffffff" if rank < 3 and value != NONE else "#22262b"


def _lighter(color: str, share: float) -> str:
    parts = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def summarise(store: Store) -> StoreFinding:
    """The finding that `Store.finding` returns."""
    import pandas as pd

    rows = store.rows
    shown = store.labels[:MOST_LABELS]
    parts = [part for name in shown for part in [_distribution(name, rows[name])] if len(part)]
    empty = pd.DataFrame({"label": [], "value": [], "count": [], "share": []})
    left = store.labels[MOST_LABELS:]
    notes = [f"{_many(len(left), 'more label')} not shown: {', '.join(left)}"] if left else []
    return StoreFinding(
        table=pd.concat(parts, ignore_index=True) if parts else empty,
        provenance=Provenance(
            model=str(store.about.get("model", "")),
            data=str(store.about.get("corpus", "")),
            store_key=store.key,
            parameters=_sizes(store),
        ),
        notes=(*store.notes, *notes),
    )


def _sizes(store: Store) -> dict[str, Any]:
    rows = store.rows
    specs = store.sites.values()
    source = "sample" if "sample" in rows else "text"
    return {
        "rows": len(rows),
        "source": source,
        "sources": _distinct(rows, source),
        "groups": _distinct(rows, "group"),
        "labels": len(store.labels),
        "sites": len(specs),
        "widths": sorted({spec.width for spec in specs}),
        "dtype": str(next(iter(specs)).dtype).removeprefix("torch."),
        "bytes": len(rows) * sum(spec.row_bytes for spec in specs),
    }


def _distinct(rows: pd.DataFrame, name: str) -> int:
    return rows[name].nunique() if name in rows else 0


def _distribution(label: str, values: pd.Series[Any]) -> pd.DataFrame:
    """Rows per value, the most frequent first; bins of a number in their own order."""
    import pandas as pd

    counts = _counts(values)
    missing = counts.get(NONE, 0)
    counts = counts.drop(NONE, errors="ignore")
    rare = counts.iloc[MOST_VALUES:]
    counts = counts.iloc[:MOST_VALUES]
    if len(rare):
        counts[f"({len(rare):,} {OTHERS}"] = rare.sum()
    if missing:
        counts[NONE] = missing
    return pd.DataFrame(
        {
            "label": label,
            "value": counts.index,
            "count": counts.to_numpy(),
            "share": counts.to_numpy() / max(len(values), 1),
        }
    )


def _counts(values: pd.Series[Any]) -> pd.Series[int]:
    import pandas as pd

    number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    binned = number and values.nunique() > MOST_VALUES
    kept = pd.cut(values, BINS) if binned else values
    counts = kept.value_counts(dropna=False, sort=not binned)
    counts = counts[counts > 0]
    named = [NONE if pd.isna(value) else str(value) for value in counts.index]
    return pd.Series(counts.to_numpy(), index=named)
