"""What changes while a network learns: runs whose every step was written down, not trained."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

from layerscope.calibration.instrument import Instrument, Reading

LEARNS = "While a network learns"


def _learning_regime(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.analyses import learning_regime
    from layerscope.planted.moved_axes import moved_axes

    start, end = moved_axes(0), moved_axes(2)
    # The eight axes, so that a Gram matrix is that of the weights; signs change nothing.
    generator = torch.Generator().manual_seed(seed)
    x = torch.diag(torch.randn(8, generator=generator).sign())
    for name, last in (("moved by two axes", end), ("nothing moved", start)):
        found = learning_regime([start, last], x, seed=seed, progress=False)

        def value(measure: str, site: str) -> float:
            lines = found.measured(measure, site)  # noqa: B023  (read before the next round)
            return float(lines.sort_values("step")["value"].iloc[-1])

        moved = last is end
        # W of four axes becomes twice four others: each row by sqrt(1 + 4), rows of length 1.
        change = sqrt(5) if moved else 0.0
        yield Reading(
            f"relative change of the first weights, {name}",
            change,
            value("relative_weight_change", "0"),
            1e-6,
        )
        # Projections on axes 0..3 and 2..5 share two of four.
        shared = 0.5 if moved else 1.0
        yield Reading(
            f"alignment of states, {name}", shared, value("representation_alignment", "0"), 1e-6
        )
        # K = 4 I + P, later 4 I + 4 P': 216 over the root of 164 times 320.
        kernel = 216 / sqrt(164 * 320) if moved else 1.0
        yield Reading(
            f"alignment of tangent kernels, {name}",
            kernel,
            value("tangent_kernel_alignment", "whole network"),
            1e-6,
        )


def _information_plane(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.analyses import information_plane
    from layerscope.analyses.training.held_run import held_run
    from layerscope.planted.known_planes import known_training

    known = known_training(6)
    still = torch.full((2, len(known.labels), 3), 0.25)
    snapshots = {step: {**sites, "still": still} for step, sites in known.snapshots.items()}
    run = held_run(snapshots, known.labels, name="planted")
    found = information_plane(run, bins=30, sigmas=64, kde_rows=None, seed=seed, progress=False)
    last = max(snapshots)
    at: Any = found.table[found.table["step"] == last].groupby(["estimator", "site"])[["x", "y"]]
    at = at.mean()
    bits = {**known.input_bits[last], "still": 0.0}
    # Noise of 1/64 of the gap between 0 and 1 blurs nothing; both networks hold the same bits.
    for estimator, name in (("binned", "bins"), ("kde", "kernel densities")):
        for site, expected in bits.items():
            x = float(at["x"][estimator, site])
            yield Reading(f"bits about the input, {site} layer, {name}", expected, x, 1e-4, "bits")
    for site, label in (("second", 1.0), ("still", 0.0)):
        y = float(at["y"]["binned", site])
        yield Reading(f"bits about the label, {site} layer", label, y, 1e-4, "bits")
    falls = found.compression().set_index(["site", "setting"])["fall"]
    for site in ("second", "first"):
        lost = known.input_bits[0][site] - known.input_bits[last][site]
        fall = float(falls[site, "30 bins"])
        yield Reading(f"bits that the {site} layer gives up", lost, fall, 1e-4, "bits")


def _generalisation_gap(seed: int) -> Iterator[Reading]:
    import numpy as np
    import pandas as pd
    import torch

    from layerscope.analyses import generalisation_gap
    from layerscope.analyses.training.held_run import held_run

    networks, rows = 12, 60
    labels = torch.arange(rows) % 3
    noise = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))
    spread = torch.linspace(0.1, 3, networks)[:, None, None]
    middle = 30 * torch.eye(3)[labels]
    sites = {"wider": middle + spread * noise, "narrower": middle + (3.2 - spread) * noise}
    order = np.arange(networks) / networks
    # The gap of network i is that of network 11 - i: as many pairs in order as against it.
    mirrored = np.minimum(order, order[::-1])
    for name, gaps in (("ordered", order), ("mirrored", mirrored)):
        train = {
            "seed": range(networks),
            "step": 0,
            "split": "train",
            "loss": 0.1,
            "accuracy": 0.95,
        }
        test = train | {"split": "test", "loss": 0.1 + gaps, "accuracy": 0.85}
        scores = pd.concat([pd.DataFrame(train), pd.DataFrame(test)], ignore_index=True)
        run = held_run({0: sites}, labels, scores=scores, name="planted")
        found = generalisation_gap(run, sigma=1.0, draws=50, seed=seed, progress=False)
        lines = found.correlation().set_index(["measure", "site"])["value"]
        for site, sign in (("wider", 1.0), ("narrower", -1.0)):
            expected = sign if name == "ordered" else 0.0
            value = float(lines["jensen_given_label", site])
            yield Reading(
                f"order of gaps and of bits kept, {site} layer, {name}",
                expected,
                value,
                1e-9,
                "Kendall's tau",
            )


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "learning_regime",
        LEARNS,
        "Weights that are four axes of the input, and later twice four axes of which two are the "
        "same; and weights that did not move.",
        "closed form: traces of products of projections",
        _learning_regime,
    ),
    Instrument(
        "information_plane",
        LEARNS,
        "A layer that keeps all six bits of its input while another gives up one at each snapshot; "
        "both hold the bit that is the label.",
        "counts of the construction",
        _information_plane,
    ),
    Instrument(
        "generalisation_gap",
        LEARNS,
        "Twelve networks whose gap grows with the width of one layer's classes and falls with the "
        "other's; and twelve whose gaps are the same from either end.",
        "closed form: every pair in order, every pair reversed, as many of either",
        _generalisation_gap,
    ),
)
