"""Lines on the decoder's directions, and on how they meet planted ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from layerscope.analyses.sae.measuring.accumulator import Accumulator
from layerscope.analyses.sae.measuring.baselines import rank_for
from layerscope.analyses.sae.measuring.detection import Detection
from layerscope.analyses.sae.measuring.dictionary import (
    TWIN,
    Matched,
    geometry,
    matched,
    paired_cosines,
)
from layerscope.analyses.sae.measuring.row_moments import Moments
from layerscope.analyses.sae.measuring.sae_table import NAN, Line, measured_line
from layerscope.analyses.sae.sae import SAE


def matches(
    candidates: Mapping[str, SAE], reference: Tensor | None, *, signed: bool
) -> dict[str, Matched]:
    """Each candidate beside the planted directions; none where there are none."""
    if reference is None:
        return {}
    return {name: matched(one.W_dec, reference, signed=signed) for name, one in candidates.items()}


def dictionary_lines(
    candidates: Mapping[str, SAE],
    sums: Mapping[str, Accumulator],
    moments: Moments,
    found: Mapping[str, Matched],
    detections: Mapping[str, Detection],
) -> list[Line]:
    """Geometry of the latents that fired, and recovery of planted directions and features."""
    explained = float(sums["sae"].values()["explained_variance"][0])
    rank = {"sae": rank_for(moments, explained)}
    lines = [measured_line("pca_rank", rank, n=sums["sae"].rows, estimator="eigenvalues")]
    shapes = {
        name: _geometry(one, sums[name].fired)
        for name, one in candidates.items()
        if name != "pca"  # orthogonal by construction, and each there with its opposite
    }
    live = int((sums["sae"].fired > 0).sum())
    for key in shapes["sae"]:
        values = {name: one[key] for name, one in shapes.items()}
        lines.append(measured_line(key, values, n=live, estimator="over live latents"))
    for key in ("mcc", "mmcs", "uniqueness") if found else ():
        values = {name: float(getattr(one, key)) for name, one in found.items()}
        n = len(found["sae"].latent)
        lines.append(measured_line(key, values, n=n, estimator="over planted directions"))
    if detections:
        scores = {name: one.scores() for name, one in detections.items()}
        for key in ("precision", "recall", "f1"):
            values = {name: float(np.nanmean(one[key])) for name, one in scores.items()}
            n = int(np.isfinite(scores["sae"][key]).sum())
            lines.append(measured_line(key, values, n=n, estimator="over planted features"))
    return lines


def _geometry(sae: SAE, fired: Tensor) -> dict[str, float]:
    live = torch.nonzero(fired > 0)[:, 0]
    names = ("nearest_cosine", "coherence", "twins", "encoder_decoder_cosine")
    if len(live) < 2:
        return dict.fromkeys(names, NAN)
    decoder = sae.W_dec[live]
    shape = geometry(decoder)
    found = (
        shape.nearest.double().mean(),
        shape.coherence.max(),
        (shape.nearest > TWIN).double().mean(),
    )
    paired = NAN
    if sae.d_in == sae.d_out:
        paired = float(paired_cosines(sae.W_enc[:, live].T, decoder).double().mean())
    return dict(zip(names, (*map(float, found), paired), strict=True))
