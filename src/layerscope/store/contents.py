"""What is in this store: in a few lines, and as the data section of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.distribution import bars, leading, lines, many
from layerscope.finding import Finding, Provenance

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from layerscope.store.store import Store

MOST_LABELS = 12


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
            f"{many(size['rows'], 'row')} from {many(size['sources'], size['source'])} in "
            f"{many(size['groups'], 'group')}; {many(size['sites'], 'site')} of width {widths} "
            f"in {size['dtype']}, {size['bytes'] / 1e6:,.1f} MB."
        )
        return f"{first} {self._answer_labels()}"

    def gist(self) -> str:
        """In one sentence."""
        size = self.provenance.parameters
        rows = many(size["rows"], "row")
        kept = f"The states of {rows} (words or samples) from {many(size['sources'], size['source'])} are kept"
        return f"{kept}, each at {many(size['sites'], 'place')} in the model."

    def _answer_labels(self) -> str:
        if self.table.empty:
            return "The rows carry no labels."
        return f"{many(self.provenance.parameters['labels'], 'label')}.{leading(self.table)}"

    def figure(self) -> go.Figure:
        """One bar per label, cut into its values by share of the rows."""
        return bars(self.table)


def summarise(store: Store) -> StoreFinding:
    """The finding that `Store.finding` returns."""
    import pandas as pd

    rows = store.rows
    given = [name for name in store.labels if rows[name].notna().any()]
    counts = {name: _counted(rows[name]) for name in given[:MOST_LABELS]}
    left = given[MOST_LABELS:]
    notes = [f"{many(len(left), 'more label')} not shown: {', '.join(left)}"] if left else []
    return StoreFinding(
        table=pd.DataFrame(lines(counts, len(rows)), columns=["label", "value", "count", "share"]),
        provenance=Provenance(
            model=str(store.about.get("model", "")),
            data=str(store.about.get("corpus", "")),
            store_key=store.key,
            call="store.finding()",
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


def _counted(values: pd.Series[Any]) -> Counter[Any]:
    """How often each value occurs; None for rows without one."""
    counts = values.value_counts(dropna=False)
    return Counter(
        {
            None if missing else value: int(n)
            for (value, n), missing in zip(counts.items(), counts.index.isna(), strict=True)
        }
    )


def describe_html(store: Store) -> str:
    """The store for a notebook: its size, its sites, and what to do with it."""
    from layerscope.notebook import card, cared, listing

    sites = [
        (
            name,
            spec.width,
            str(spec.dtype).removeprefix("torch."),
            len(store) * spec.row_bytes / 1e6,
        )
        for name, spec in store.sites.items()
    ]
    return card(
        "Store",
        str(store.path),
        [
            many(len(store), "row"),
            many(len(sites), "site"),
            f"labels: {_some(store.labels)}",
        ],
        listing(("site", "width", "dtype", "MB"), sites) + cared(store.notes),
        after=next_step(store),
    )


def _some(labels: Sequence[str]) -> str:
    more = ", …" if len(labels) > MOST_LABELS else ""
    return ", ".join(labels[:MOST_LABELS]) + more or "none"


def next_step(store: Store) -> str:
    """The call that a store is usually made for."""
    if not store.labels:
        return f'store["{next(iter(store.sites))}"][:100], store.rows'
    label = "upos" if "upos" in store.labels else store.labels[0]
    return f'probe(store, "all", label="{label}")'


def describe(store: Store) -> str:
    """The store in a few lines, for a prompt."""
    names = list(store.sites)
    shown = names if len(names) <= 4 else [*names[:2], "…", names[-1]]
    widths = sorted({spec.width for spec in store.sites.values()})
    dtype = str(next(iter(store.sites.values())).dtype).removeprefix("torch.")
    state = "" if store.complete else f"\n  {store.notes[-1]}"
    return (
        f"Store {store.path} (key {store.key[:12]}…)\n"
        f"  {len(store):,} rows x {len(names)} sites, width {', '.join(map(str, widths))}, {dtype}\n"
        f"  sites: {', '.join(shown)}\n"
        f"  labels: {', '.join(store.labels) or 'none'}{state}"
    )
