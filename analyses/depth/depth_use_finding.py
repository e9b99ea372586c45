"""The finding of `depth_use`: a table by block, part and measure, in words and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from layerscope.analyses.depth.depth_scores import falling_layer, sharing_layer, turning_layer
from layerscope.finding import Finding
from layerscope.wording import percent, rounded

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class DepthUseFinding(Finding):
    """What blocks add, and how the prediction takes shape; docs/depth_use.md has the columns."""

    question: ClassVar[str] = "What do the layers add, and where does the prediction take shape?"

    def answer(self) -> str:
        """What blocks add in the first and the second half, and the three effective depths."""
        norms = self.curve("relative_norm", "block").sort_values("layer")
        value, blocks = norms["value"].to_numpy(), len(norms)
        text = f"Block 0 adds {value[0]:.2f} times the norm of the embeddings it reads"
        if blocks > 2:
            middle = (blocks + 1) // 2
            text += (
                f"; the other blocks add {value[1:middle].mean():.2f} of the stream's norm in the "
                f"first half of the model and {value[middle:].mean():.2f} in the second"
            )
        return f"{text}. {self._depths(blocks)} {norms['n'].iloc[0]:,} tokens."

    def gist(self) -> str:
        """In one sentence."""
        norms = self.curve("relative_norm", "block").sort_values("layer")
        value, blocks = norms["value"].to_numpy(), len(norms)
        if blocks < 3:
            return f"Block 0 adds {rounded(value[0])} times the size of what it reads."
        middle = (blocks + 1) // 2
        first, second = percent(value[1:middle].mean()), percent(value[middle:].mean())
        return f"After block 0, blocks of the first half add {first} of the size of what they read, later ones {second}."

    def curve(self, measure: str, part: str | None = None) -> pd.DataFrame:
        """The lines of one measure by block; of one part where there are several."""
        lines = self.table[self.table["measure"] == measure]
        return lines if part is None else lines[lines["part"] == part]

    def effective_depth(self) -> dict[str, int | None]:
        """The three rules of Hu et al. 2025: by cosines, by KL of the lens, by its top list.

        ``cosine``: the last block at which the mean of the three cosine curves rises from below 0;
        ``kl``: the first whose input has a KL below half of the largest; ``overlap``: the first
        whose input shares more than a fifth of the top list. None where it never happens, or was
        not measured. Divided by the number of blocks, each counts from 1.
        """
        cosines = self.curve("cosine").groupby("layer")["value"].mean()
        kl, overlap = self.curve("kl_lens_final")["value"], self.curve("overlap")["value"]
        return {
            "cosine": turning_layer(cosines.to_numpy()),
            "kl": falling_layer(kl.to_numpy()) if len(kl) else None,
            "overlap": sharing_layer(overlap.to_numpy()) if len(overlap) else None,
        }

    def _depths(self, blocks: int) -> str:
        names = {
            "cosine": "blocks begin to strengthen what is there",
            "kl": "KL(lens || final) has halved",
            "overlap": "a fifth of the final top tokens are there",
        }
        found = self.effective_depth()
        parts = [
            f"{names[rule]} at block {layer} ({(layer + 1) / blocks:.0%} of the depth)"
            for rule, layer in found.items()
            if layer is not None
        ]
        if not parts:
            return "No rule finds an effective depth."
        return f"By the usual rules, {', '.join(parts)}; the curves say more than these numbers."

    def figure(self) -> go.Figure:
        """Relative norm and cosine of attention, MLP and block, and the lens at their inputs."""
        from layerscope.analyses.depth.depth_use_figure import panels

        return panels(self.table)
