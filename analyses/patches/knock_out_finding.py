"""The finding of `knock_out`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layerscope.finding import Finding
from layerscope.wording import percent, shortened

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class KnockOutFinding(Finding):
    """What the answer loses where attention may not pass, by window of blocks.

    Columns: ``flow`` (queries ⇸ keys), ``layer`` (centre of the window), ``first`` and ``end`` (its
    blocks: first <= block < end), ``position`` and ``token`` (of the key, where flows are one for
    each position), ``value`` (mean over prompts of p after / p before - 1), ``ci_low`` and
    ``ci_high`` (95 %, prompts resampled), ``logprob`` (mean difference of log probabilities, nats)
    with its interval, ``kept`` (share of prompts whose answer is still the likeliest), ``prob``
    (mean probability before), ``n``, ``unit``, ``estimator``.
    """

    question: ClassVar[str] = "Which tokens must be seen, and in which blocks?"

    def answer(self) -> str:
        """Where each flow matters most; of many flows the three that matter most."""
        table = self.table
        worst = table.loc[table.groupby("flow", sort=False)["value"].idxmin()]
        worst = worst.sort_values("value", kind="stable")
        parts = [
            f"{row.flow} in blocks {_blocks(row)}: {row.value:+.0%} ({row.logprob:+.2f} nats; "
            f"{row.kept:.0%} still right)"
            for row in worst.head(3).itertuples()
        ]
        first = table.iloc[0]
        more = f" The other {len(worst) - 3} flows matter less." if len(worst) > 3 else ""
        return (
            f"The answer ({first['prob']:.3f} before, {first['n']} prompts) changes most without "
            f"{'; '.join(parts)}.{more}"
        )

    def gist(self) -> str:
        """In one sentence."""
        table = self.table
        worst: Any = next(table.iloc[[int(table["value"].argmin())]].itertuples())
        if not worst.value < 0:
            return "No block lowers the answer's probability where these tokens are hidden."
        last, seen = (re.sub(r" \(\d+\)$", "", one) for one in worst.flow.split(" ⇸ "))
        block = "block" if worst.end == worst.first + 1 else "blocks"
        said = (
            f"The answer loses {percent(-worst.value)} where “{shortened(last, 14)}” cannot see "
            f"“{shortened(seen, 14)}” in {block} {_blocks(worst)}"
        )
        least = table.groupby("flow", sort=False)["value"].min()
        if len(least) < 2:
            return f"{said}."
        return (
            f"{said}; hiding what is needed least costs {percent(max(0.0, -float(least.max())))}."
        )

    def figure(self) -> go.Figure:
        """A line for each flow; a map where there is one for each token."""
        from layerscope.analyses.patches.knock_out_figure import lines, token_map

        return token_map(self.table) if _by_token(self.table) else lines(self.table)


def _by_token(table: pd.DataFrame) -> bool:
    return bool(table["position"].notna().all()) and table["flow"].nunique() > 1


def _blocks(row: Any) -> str:
    return str(row.first) if row.end == row.first + 1 else f"{row.first} to {row.end - 1}"
