"""The finding of `lens`: a table by lens, layer and measure, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.finding import Finding
from layerscope.wording import known, percent, place

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class LensFinding(Finding):
    """How near each layer's next-token distribution is to the final one; docs/lens.md has columns."""

    question: ClassVar[str] = "From which layer on does the model know what it will say?"

    def answer(self) -> str:
        """Where half of the predictions stand, and how far the layers are from the last word."""
        name = self.table["lens"].iloc[0]
        agree, kl = (self.curve(measure, name) for measure in ("agreement", "kl_final_lens"))
        first, before = kl.iloc[0], kl.iloc[-2]
        inner = agree.iloc[:-1]
        settled = inner[inner["value"] >= 0.5]
        where = (
            f"stands for half of the tokens from {settled['site'].iloc[0]} on "
            f"({settled['value'].iloc[0]:.0%})"
            if len(settled)
            else f"stands for only {inner['value'].iloc[-1]:.0%} of the tokens before the last block"
        )
        start = (
            f"Through the {name} lens, the model's final prediction {where}; "
            f"KL(final || lens) is {first['value']:.2f} nats at {first['site']} and "
            f"{before['value']:.2f}{_interval(before)} at {before['site']}, against "
            f"{first['baseline']:.2f} for saying the same everywhere"
        )
        parts = [start]
        if "twin" in kl and kl["twin"].notna().any():
            parts.append(
                f"; in an untrained twin it goes from {first['twin']:.2f} to {before['twin']:.2f}"
            )
        parts += [self._other(other) for other in self.lenses[1:]]
        parts.append(f". {first['n']:,} tokens in {first['n_groups']:,} groups.")
        return "".join(parts)

    def gist(self) -> str:
        """In one sentence."""
        agree = self.curve("agreement", self.lenses[0])
        inner = agree.iloc[:-1]
        settled = inner[inner["value"] >= 0.5]
        line = settled.iloc[0] if len(settled) else inner.iloc[-1]
        against = [f"always saying the commonest word {percent(line['baseline'])}"]
        if "twin" in line and known(line["twin"]):
            but = "but " if line["twin"] >= line["value"] else ""
            against.append(f"{but}an untrained model {percent(line['twin'])}")
        if not len(settled):
            said = "Before the last block, fewer than half of the final predictions stand"
            return f"{said}: {percent(line['value'])}; {against[0]}."
        said = f"From {place(line['site'])} on, half of the final predictions stand"
        return f"{said}: {percent(line['value'])}; {', '.join(against)}."

    @property
    def lenses(self) -> list[str]:
        """Names of the lenses, in the order they were asked for."""
        return list(dict.fromkeys(self.table["lens"]))

    def curve(self, measure: str, lens: str | None = None) -> pd.DataFrame:
        """The lines of one measure by layer; of the first lens, if none is named."""
        table = self.table
        name = self.lenses[0] if lens is None else lens
        return table[(table["lens"] == name) & (table["measure"] == measure)]

    def _other(self, name: str) -> str:
        kl = self.curve("kl_final_lens", name)
        return (
            f"; through the {name} lens from {kl['value'].iloc[0]:.2f} "
            f"to {kl['value'].iloc[-2]:.2f}"
        )

    def figure(self) -> go.Figure:
        """KL to the final distribution, agreement of the top prediction, and surprisal, by layer."""
        from layerscope.analyses.lenses.lens_figure import curves

        return curves(self.table)


def _interval(line: pd.Series[float]) -> str:
    if line["ci_low"] != line["ci_low"]:
        return ""
    return f" ({line['ci_low']:.2f} to {line['ci_high']:.2f})"
