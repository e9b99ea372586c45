"""Training runs: snapshots of networks while they learn, all seen on the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.lazy import lazy

if TYPE_CHECKING:
    from layerscope.analyses.training.checkpoint_run import checkpoint_run as checkpoint_run
    from layerscope.analyses.training.held_run import held_run as held_run
    from layerscope.analyses.training.noise import GaussianNoise as GaussianNoise
    from layerscope.analyses.training.recorded_run import open_run as open_run
    from layerscope.analyses.training.recorder import Recorder as Recorder
    from layerscope.analyses.training.small_nets import train_small_nets as train_small_nets
    from layerscope.analyses.training.training_run import TrainingRun as TrainingRun

__all__ = [
    "GaussianNoise",
    "Recorder",
    "TrainingRun",
    "checkpoint_run",
    "held_run",
    "open_run",
    "train_small_nets",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "GaussianNoise": ".noise",
        "Recorder": ".recorder",
        "TrainingRun": ".training_run",
        "checkpoint_run": ".checkpoint_run",
        "held_run": ".held_run",
        "open_run": ".recorded_run",
        "train_small_nets": ".small_nets",
    },
)
