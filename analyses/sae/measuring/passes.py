"""The passes over rows: moments and baselines first, then SAE and baselines side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerscope.analyses.material.drawn_rows import drawn
from layerscope.analyses.sae.measuring.accumulator import Accumulator
from layerscope.analyses.sae.measuring.baselines import linear, random_dictionary
from layerscope.analyses.sae.measuring.detection import Detection
from layerscope.analyses.sae.measuring.measured_rows import MeasuredRows
from layerscope.analyses.sae.measuring.norms import norms
from layerscope.analyses.sae.measuring.row_moments import Moments, RowMoments
from layerscope.analyses.sae.sae import SAE

SAMPLE = 4096
"""Rows from which the L0 is estimated that the baselines are given."""
POINTS = 400
"""Rows that the plot of norms shows."""


@dataclass(frozen=True)
class Points:
    """Norms of single rows, for the plot."""

    dense: Tensor
    sparse: Tensor


@torch.no_grad()
def moments_of(rows: MeasuredRows, device: torch.device) -> Moments:
    """Means and covariances of all rows."""
    found = RowMoments()
    for _, x, y, _ in rows.blocks(max(rows_width(rows), 1), device):
        found.add(x, y)
    return found.result()


def rows_width(rows: MeasuredRows) -> int:
    """Width of x."""
    return sum(int(one.shape[1]) for one in rows.x)


@torch.no_grad()
def with_baselines(
    sae: SAE, rows: MeasuredRows, moments: Moments, *, baselines: bool, seed: int
) -> dict[str, SAE]:
    """``sae``, and where asked ``random`` and ``pca`` of the same L0."""
    found = {"sae": sae}
    if not baselines:
        return found
    device = sae.W_enc.device
    chosen = drawn(np.arange(len(rows)), SAMPLE, seed)
    x, y = rows.at(chosen, device)
    active = sum(float((sae.encode(part) != 0).sum()) for part in x.split(512))
    l0 = max(1, round(active / len(x)))
    found["random"] = random_dictionary(moments, x, y, sae, min(l0, sae.n_latents), seed)
    found["pca"] = linear(moments, min(l0, sae.d_out), sae)
    return found


@torch.no_grad()
def accumulated(
    candidates: Mapping[str, SAE],
    rows: MeasuredRows,
    mean: Tensor,
    detections: Mapping[str, Detection],
    features: Tensor | None,
    *,
    seed: int,
    progress: bool,
) -> tuple[dict[str, Accumulator], Points]:
    """All sums of each candidate in one pass, and norms of some rows of the SAE.

    Args:
        candidates: With ``sae``.
        rows: Which rows.
        mean: Of y, [d_out].
        detections: Of candidates for which `features` are compared.
        features: Planted features, [all rows of the data, known], or None.
        seed: Of the rows that are drawn as points.
        progress: Whether to show a bar.
    """
    from tqdm.auto import tqdm

    found = {name: Accumulator.of(one, mean, rows.n_groups) for name, one in candidates.items()}
    sae = candidates["sae"]
    shown = drawn(np.arange(len(rows)), POINTS, seed)
    dense, sparse = [], []
    with tqdm(total=len(rows), desc="measure", unit="row", disable=not progress) as bar:
        for part, x, y, groups in rows.blocks(sae.n_latents, sae.W_enc.device):
            for name, one in candidates.items():
                codes = one.encode(x)
                found[name].add(y, codes, one.decode(codes, x), groups)
                if features is not None and name in detections:
                    detections[name].add(codes, features[torch.from_numpy(rows.index[part])])
                if name == "sae":
                    at = shown[(shown >= part.start) & (shown < part.stop)] - part.start
                    index = torch.from_numpy(at).to(codes.device)
                    some = norms(y[index], codes[index], found[name].lengths, one.b_dec)
                    dense.append(some.dense.cpu())
                    sparse.append(some.sparse.cpu())
            bar.update(len(x))
    return found, Points(torch.cat(dense), torch.cat(sparse))
