"""The finding of `features`: what the latents of a sparse autoencoder fire on, write and stand for."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, ClassVar

from layerscope.analyses.material.pieces import shown
from layerscope.analyses.sae.looking.class_counts import SURE
from layerscope.finding import Finding
from layerscope.wording import called, known, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class FeaturesFinding(Finding):
    """One line for each latent; docs/sae_features.md says what each column means."""

    question: ClassVar[str] = "What do the latents of the sparse autoencoder stand for?"

    def answer(self) -> str:
        """How many fire, how often, and the class or the token of the first one shown."""
        table = self.table
        alive = table[table["fired"] > 0]
        rows = f"{table['n'].iloc[0]:,} rows"
        if not len(alive):
            return f"None of the {len(table):,} latents fires on any of {rows}."
        dead = len(table) - len(alive)
        never = f"; {dead:,} never fire" if dead else ""
        said = (
            f"{len(alive):,} of {len(table):,} latents fire, half of them on more than "
            f"{alive['density'].median():.1%} of {rows}{never}."
        )
        return f"{said} {_classes(alive) if 'class' in table else _first(self.shown)}"

    def gist(self) -> str:
        """In one sentence."""
        table = self.table
        alive = table[table["fired"] > 0]
        if not len(alive):
            return f"None of the {len(table):,} features fires on any row."
        if "class" not in table:
            often = percent(alive["density"].median())
            return f"{len(alive):,} of {len(table):,} features fire, half of them on more than {often} of the rows."
        sure, label = int(told(alive).sum()), called(alive["label"].iloc[0])
        if not sure:
            return f"No feature tells {label} better than shuffled labels do."
        random = alive["random_told"].iloc[0] if "random_told" in alive else float("nan")
        said = (
            f"{percent(sure / len(alive))} of the features tell {label} better than shuffled labels"
        )
        if not known(random):
            return f"{said}; no control was run."
        only = "" if sure / len(alive) > random else "no more than random directions: "
        return f"{said}; {only or 'of random directions '}{percent(random)}."

    @property
    def shown(self) -> pd.DataFrame:
        """The latents that have a block on the page, in its order."""
        return self.table[self.table["place"].notna()].sort_values("place")

    def find(self, word: str) -> pd.DataFrame:
        """The latents whose tokens or class begin with `word`, the strongest writers first."""
        from layerscope.analyses.sae.looking.words import matches

        table = self.table
        return table[matches(table, word)].sort_values("energy", ascending=False)

    def figure(self) -> go.Figure:
        """Map of the directions, coloured by class, without label by density."""
        from layerscope.analyses.sae.looking.features_figure import directions

        return directions(self.table)

    def page(self, latents: Sequence[int] | None = None) -> str:
        """HTML with one block for each shown latent; in Jupyter: ``HTML(finding.page([17]))``.

        Args:
            latents: These instead; any that the table has.

        Raises:
            LookupError: a latent that is not in the table.
        """
        from layerscope.analyses.sae.looking.page import page

        if latents is None:
            return page(self.table, self.shown)
        by_number = self.table.set_index("latent", drop=False)
        missing = [latent for latent in latents if latent not in by_number.index]
        if missing:
            raise LookupError(
                f"latent {missing[0]} is not among the {len(by_number):,} of this finding; run "
                f"features() with it among latents="
            )
        return page(self.table, by_number.loc[list(latents)])


def told(table: pd.DataFrame) -> pd.Series[bool]:
    """Whether a latent tells its class better than shuffled labels."""
    better: pd.Series[bool] = table["score"] > table["null"] + SURE * table["null_sd"]
    return better


def _classes(alive: pd.DataFrame) -> str:
    sure = alive[told(alive)]
    label = alive["label"].iloc[0]
    if not len(sure):
        return f"None tells a class of {label} better than shuffled labels do."
    best = sure.iloc[int(sure["score"].argmax())]
    random = alive["random_told"].iloc[0]
    control = "" if isnan(random) else f"; {random:.0%} of a random dictionary's latents do"
    return (
        f"{len(sure):,} tell a class of {label} better than shuffled labels (by {SURE} sd{control}), half "
        f"of them with an F1 below {sure['score'].median():.2f}; the best is latent {best['latent']} for "
        f"{best['class']}: F1 {best['score']:.2f} on held-out groups, shuffled "
        f"{best['null']:.2f} ± {best['null_sd']:.2f}, base rate {best['base']:.2f}."
    )


def _first(lines: pd.DataFrame) -> str:
    known = lines[lines["token"].notna()]
    if not len(known):
        return ""
    one = known.iloc[0]
    return (
        f"Latent {one['latent']}, first on the page, fires most often on “{shown(one['token'])}” "
        f"({one['token_share']:.0%} of its firings)."
    )
