"""The shape of one layer, of two layers side by side, and of the conditions of a task."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

from layerscope.calibration.instrument import Instrument, Reading
from layerscope.calibration.instruments.rows import planted_store


def _geometry(seed: int) -> Iterator[Reading]:
    """Clouds whose covariance is set, not drawn; and a flat sheet in wide space."""
    import torch

    from layerscope.analyses import geometry
    from layerscope.planted.clouds import cube, exactly_white, gaussian, isotropic, power_law

    rows, width = 600, 16
    white = exactly_white(rows, width, seed=seed)
    sites = {
        "embed": white,
        "blocks.0.resid_post": white * power_law(width).sqrt(),
        "blocks.1.resid_post": cube(rows, 2, width, seed=seed),
        "blocks.2.resid_post": gaussian(rows, isotropic(width), seed=seed),
    }
    groups = [f"g{row // 6}" for row in range(rows)]
    with planted_store(sites, group=groups) as store:
        found = geometry(store, seed=seed, progress=False)

    def value(measure: str, layer: int) -> float:
        return float(found.measure(measure).set_index("layer")["value"][layer])

    law = power_law(width)
    shares = law / law.sum()
    of_law = float(law.sum() ** 2 / law.square().sum())
    rank = float(torch.exp(-(shares * shares.log()).sum()))
    unit, raw = "dimensions", "participation_ratio_raw"
    ratio = "participation ratio"
    yield Reading(f"{ratio}, all directions alike", width, value(raw, -1), 1e-3, unit)
    yield Reading(f"{ratio}, variances 1/i", of_law, value(raw, 0), 1e-3, unit)
    yield Reading("effective rank, variances 1/i", rank, value("effective_rank", 0), 1e-3, unit)
    # Of n independent normal rows, the corrected ratio varies by 2 width / n (Ledoit and Wolf 2002).
    noise = value("participation_ratio", 2)
    yield Reading(f"{ratio} corrected, noise", width, noise, 3 * 2 * width / rows, unit)
    # Of n rows a dimension d by maximum likelihood varies by d / sqrt(n); the edge of the sheet
    # costs a few per cent, as it does in Facco et al. (2017).
    yield Reading("TwoNN dimension, a sheet", 2.0, value("twonn", 1), 3 * 2 / sqrt(rows), unit)
    # All pairs of centred rows: minus 1 / (n - 1) but for their lengths; 1 / (n sqrt(width)) about it.
    cosine = value("cosine_centred", 2)
    yield Reading("cosine of two rows, noise", 0.0, cosine, 3 / rows, "cosine")


def _similarity(seed: int) -> Iterator[Reading]:
    """A turned copy, a copy mixed with as much noise as is known, and noise alone."""
    from layerscope.analyses import similarity
    from layerscope.analyses.resemblance.cells import MEASURES
    from layerscope.planted.clouds import exactly_white, gaussian, isotropic, rotation

    rows, width, kept = 240, 8, 0.8
    white = exactly_white(rows, 2 * width, seed=seed)
    x, noise = white[:, :width], white[:, width:]
    sites = {
        "embed": x,
        "blocks.0.resid_post": 3 * x @ rotation(width, seed=seed),
        "blocks.1.resid_post": kept * x + sqrt(1 - kept**2) * noise,
        "blocks.2.resid_post": noise,
        "blocks.3.resid_post": gaussian(rows, isotropic(width), seed=seed + 1),
    }
    groups = [f"g{row // 6}" for row in range(rows)]
    # RSA of correlations is of features as they are; a rotation is no copy to it.
    names = [name for name in MEASURES if name != "rsa"]
    with planted_store(sites, group=groups) as store:
        table = similarity(store, measures=names, draws=3, seed=seed, progress=False).table
    lines = table[table["a"].eq(table["a"].iloc[0]) & table["site"].eq("embed")].set_index(
        ["measure", "other_site"]
    )["value"]

    def value(measure: str, layer: int) -> float:
        return float(lines[measure, f"blocks.{layer}.resid_post"])

    far = max(abs(value(name, 0) - (0 if MEASURES[name].distance else 1)) for name in names)
    yield Reading(f"a turned copy, worst of {len(names)} measures", 0.0, far, 1e-3, "from perfect")
    yield Reading("CKA of a copy with noise", kept**2, value("cka_biased", 1), 1e-5, "CKA")
    yield Reading("mean CCA of a copy with noise", kept, value("cca", 1), 1e-5, "correlation")
    yield Reading(
        "Procrustes, copy with noise",
        2 - 2 * kept,
        value("procrustes", 1),
        1e-5,
        "squared distance",
    )
    yield Reading("CKA of noise", 0.0, value("cka_biased", 2), 1e-5, "CKA")
    yield Reading("mean CCA of noise", 0.0, value("cca", 2), 1e-5, "correlation")
    # Of drawn noise: n (n - 1) / 2 products of independent kernels of equal size, sqrt(2) / n.
    yield Reading("unbiased CKA of noise", 0.0, value("cka", 3), 3 * sqrt(2) / rows, "CKA")


def _task_geometry(seed: int) -> Iterator[Reading]:
    """Two variables at the corners of a square, of a simplex, and nowhere."""
    from itertools import product

    import numpy as np

    from layerscope.analyses import task_geometry
    from layerscope.planted.condition_points import cube, noisy_rows, simplex

    square, codes = noisy_rows(cube(2), each=60, noise=0.01, width=8, seed=seed)
    sites = {
        "embed": square,
        "blocks.0.resid_post": noisy_rows(simplex(4), each=60, noise=0.01, width=8, seed=seed)[0],
        "blocks.1.resid_post": noisy_rows(0 * cube(2), each=60, noise=1.0, width=8, seed=seed)[0],
    }
    values = np.array(list(product("xy", repeat=2)))[codes]
    groups = np.arange(len(codes)) // 2
    with planted_store(sites, group=groups, a=values[:, 0], b=values[:, 1]) as store:
        found = task_geometry(store, conditions=["a", "b"], seed=seed, progress=False)

    def value(measure: str, layer: int, dichotomy: str | None = None) -> float:
        lines = found.measured(measure).query("layer == @layer")
        if dichotomy is not None:
            lines = lines[lines["dichotomy"] == dichotomy]
        return float(lines["value"].iloc[0])

    a, both = "a: x / y", "a xor b"
    yield Reading("parallelism on a square", 1.0, value("parallelism", -1, a), 0.01)
    yield Reading("parallelism of the exclusive or", -1.0, value("parallelism", -1, both), 0.01)
    yield Reading("parallelism on a simplex", 0.0, value("parallelism", 0, a), 0.01)
    yield Reading("generalisation on a square", 1.0, value("ccgp_paired", -1, a), 0.01)
    yield Reading("dimension of a square", 2.0, value("dimension", -1), 0.01)
    yield Reading("dimension of a simplex", 3.0, value("dimension", 0), 0.01)
    yield Reading("input alignment of a simplex", sqrt(2 / 3), value("input_alignment", 0), 0.01)
    yield Reading("shattering on a square", 2 / 3, value("shattering", -1), 0.01)
    yield Reading("shattering on a simplex", 1.0, value("shattering", 0), 0.01)
    yield Reading("decoding from noise", 0.5, value("mean_decoding", 1), 0.1)


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "geometry",
        "What they look like",
        "Rows whose covariance is exactly round, exactly a power law, or a flat sheet in 16 "
        "dimensions.",
        "closed form; Ledoit and Wolf 2002, Facco et al. 2017",
        _geometry,
    ),
    Instrument(
        "similarity",
        "What they look like",
        "A layer, its turned copy, a copy in which 36 % of the variance is noise, and noise that "
        "is exactly uncorrelated with it.",
        "closed form: CKA is the share squared, CCA the share",
        _similarity,
    ),
    Instrument(
        "task_geometry",
        "What they look like",
        "Two variables at the corners of a square at one layer, of a simplex at another, and "
        "nowhere at a third.",
        "closed form; Bernardi et al. 2020, Alleman et al. 2024",
        _task_geometry,
    ),
)
