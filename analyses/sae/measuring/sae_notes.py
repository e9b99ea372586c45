"""What to beware of in the measures of one SAE."""

from __future__ import annotations

from collections.abc import Mapping

from layerscope.analyses.sae.measuring.accumulator import Accumulator
from layerscope.analyses.sae.measuring.measured_rows import MeasuredRows
from layerscope.analyses.sae.measuring.row_moments import Moments
from layerscope.analyses.sae.rows.statistics import Statistics, mismatch
from layerscope.analyses.sae.sae import SAE

FEW = 20
"""Texts below which intervals of resampled texts are told to be too narrow."""


def row_notes(sae: SAE, sums: Mapping[str, Accumulator], rows: MeasuredRows) -> list[str]:
    """Rows that were seen before, codes that are not sparse, and how sure dead is."""
    found = []
    one = sums["sae"]
    values = one.values()
    l0, n = float(values["l0"][0]), one.rows
    if float(values["explained_variance"][0]) < 0:
        found.append(
            "explained variance is below 0: the mean of the rows alone is nearer to them than the "
            "reconstruction; another site, another scale of the activations or an untrained SAE look so"
        )
    if rows.store is not None and sae.about.get("store_key") == rows.store.key:
        found.append(
            "these are rows it was trained on; other texts show what it has learnt of them"
        )
    if 1 < rows.n_groups < FEW:
        found.append(f"intervals rest on {rows.n_groups} texts only, and are likely too narrow")
    if l0 >= sae.d_out:
        found.append(
            f"L0 is {l0:,.0f} at a width of {sae.d_out}: the codes are not sparse, and as many "
            "principal components are the whole activation"
        )
    dead = int((one.fired == 0).sum())
    if dead:
        found.append(
            f"a latent that never fired in {n:,} rows fires at fewer than {3 / n:.1g} of such rows, "
            "with 95 % confidence (rows of one text are not independent: more, then)"
        )
    return found


def unlike_training(sae: SAE, rows: MeasuredRows, moments: Moments) -> str:
    """How rows differ from those the SAE was trained on; empty where they do not, or it is unknown."""
    if sae.statistics is None:
        return ""
    here = Statistics(
        site=rows.site,
        rows=moments.rows,
        mean=moments.mean_x.float().cpu(),
        variance=moments.cov_xx.diagonal().float().cpu(),
        mean_norm=moments.norm_x,
    )
    return mismatch(sae.statistics, here) or ""
