"""The finding of `layer_similarity`: what turns the stream least, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.finding import Finding
from layerscope.wording import capital, place, spoken

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = (
    "part",
    "layer",
    "blocks",
    "before",
    "after",
    "value",
    "ci_low",
    "ci_high",
    "importance",
    "rank",
    "joint_rank",
    "without_first",
    "first_only",
    "twin",
    "twin_low",
    "twin_high",
    "n",
    "n_groups",
    "unit",
    "estimator",
)
"""Order of the table's columns; docs/layer_similarity.md says what each one means."""
PARTS = {"block": "block", "attention": "attention", "mlp": "MLP"}


@dataclass(frozen=True)
class SimilarityFinding(Finding):
    """Cosine of input and output for every block, attention, MLP and run of blocks."""

    question: ClassVar[str] = "Which layers change the hidden state least?"

    def answer(self) -> str:
        """The least and the most important block, attention and MLP, with their cosines."""
        told = [_told(self.part(name), word) for name, word in PARTS.items() if self.has(name)]
        counted = self.table.iloc[0]
        return (
            f"The hidden state is turned by {'; by '.join(told)}. 1 is no turn; {counted['n']:,} "
            f"tokens in {counted['n_groups']:,} groups."
        )

    def gist(self) -> str:
        """In one sentence."""
        word = next(name for name in PARTS if self.has(name))
        lines = self.part(word)
        least, most = (lines.loc[lines["value"].agg(which)] for which in ("idxmax", "idxmin"))
        site = {"mlp": "mlp_out", "attention": "attn_out"}.get(word, "resid_post")
        first, other = (place(f"blocks.{line['layer']}.{site}") for line in (least, most))
        if len(lines) == 1:
            return f"{capital(first)} leaves the hidden state at a cosine of {least['value']:.2f} to before (1: as it was)."
        return (
            f"{capital(first)} turns the hidden state least (cosine {least['value']:.2f}, 1 is no turn), "
            f"{other} most ({most['value']:.2f})."
        )

    def has(self, part: str) -> bool:
        """Whether blocks, attention or MLPs were compared."""
        return bool((self.table["part"] == part).any())

    def part(self, name: str) -> pd.DataFrame:
        """Lines of ``block``, ``attention``, ``mlp`` or ``window``."""
        return self.table[self.table["part"] == name]

    def order(self, part: str = "block") -> list[int]:
        """Layers of one part, least important first: the order in which one-shot dropping goes.

        Raises:
            ValueError: a part that was not compared; the message names those that were.
        """
        if part not in PARTS or not self.has(part):
            known = ", ".join(repr(name) for name in PARTS if self.has(name))
            raise ValueError(f"part is one of {known}, not {part!r}")
        return [int(layer) for layer in self.part(part).sort_values("rank")["layer"]]

    def joint_order(self) -> list[tuple[str, int]]:
        """Attention and MLP layers together, least important first."""
        lines = self.table.dropna(subset="joint_rank").sort_values("joint_rank")
        return [(str(p), int(i)) for p, i in zip(lines["part"], lines["layer"], strict=True)]

    def window(self, blocks: int) -> tuple[int, float]:
        """First block and cosine of the run of `blocks` blocks that changes the stream least.

        Raises:
            LookupError: windows of that length were not measured.
        """
        lines = self.part("block" if blocks == 1 else "window")
        lines = lines[lines["blocks"] == blocks]
        if not len(lines):
            longest = int(self.table["blocks"].max())
            raise LookupError(f"runs of {blocks} blocks were not compared; the longest: {longest}")
        best = lines.iloc[int(lines["value"].argmax())]
        return int(best["layer"]), float(best["value"])

    def figure(self) -> go.Figure:
        """Cosine by layer with interval and untrained twin, above the map of all runs of blocks."""
        from layerscope.analyses.skipping.layer_similarity_figure import curves_and_runs

        return curves_and_runs(self.table)


def _told(lines: pd.DataFrame, word: str) -> str:
    least, most = (lines.loc[lines["value"].agg(which)] for which in ("idxmax", "idxmin"))
    if len(lines) == 1:
        return f"{word} {least['layer']}: cosine {least['value']:.3f}"
    spread = spoken(least["ci_low"], least["ci_high"], ".3f", before=", ")
    return f"{word} {least['layer']} the least (cosine {least['value']:.3f}{spread}) and {word} {most['layer']} the most ({most['value']:.3f})"
