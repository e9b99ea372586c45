"""Pictures of the pages about information: one pair, the plane over training, a family of networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerscope import analyses
from layerscope.analyses.training.small_nets import train_small_nets
from layerscope.planted.blobs import blobs
from layerscope.planted.exact_information import named
from layerscope.planted.twelve_bits import twelve_bits

if TYPE_CHECKING:
    from pathlib import Path

    from layerscope import Finding

QUIET: dict[str, Any] = {"progress": False}
WIDTHS = (32, 64, 128, 256)
DATA_SETS, ROWS, TRAINED_ON = 6, 550, 50
DECAYS = (0.0, 0.01, 0.1)


def mutual_information(data: Path) -> Finding:
    x, y = named()["student-identity-1-1-1"].sample(2000)
    return analyses.mutual_information(x, y, **QUIET)


def information_plane(data: Path) -> Finding:
    """Eight tanh networks, 8,000 epochs: minutes."""
    return _plane("tanh")


def information_plane_relu(data: Path) -> Finding:
    """The same with rectified units."""
    return _plane("relu")


def generalisation_gap(data: Path) -> Finding:
    """216 networks: a quarter of an hour on one core."""
    grid = [(w, d, s) for w in DECAYS for d in range(DATA_SETS) for s in range(3)]
    decays, sets, seeds = (list(part) for part in zip(*grid, strict=True))
    points = blobs(DATA_SETS, ROWS)
    runs = [
        train_small_nets(
            points.inputs[sets],
            points.labels,
            widths=(width, width, width // 2, width // 2),
            activation="relu",
            seeds=seeds,
            weight_decay=decays,
            optimiser="sgd",
            momentum=0.9,
            lr=1e-2,
            batch=64,
            epochs=300,
            train_share=TRAINED_ON / ROWS,
            steps=range(200, 301, 5),
            **QUIET,
        )
        for width in WIDTHS
    ]
    settings = [{"weight_decay": decays, "width": width, "data": sets} for width in WIDTHS]
    return analyses.generalisation_gap(runs, settings=settings, data="data", **QUIET)


def _plane(activation: str) -> Finding:
    task = twelve_bits()
    run = train_small_nets(
        task.inputs, task.labels, activation=activation, seeds=8, epochs=8000, **QUIET
    )
    return analyses.information_plane(run, **QUIET)
