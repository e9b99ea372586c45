"""Effects of windows of blocks, collected over batches of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerscope.analyses.material.resampling import mean_intervals
from layerscope.analyses.skipping.skip_effects import Output
from layerscope.analyses.skipping.skip_lanes import Lane
from layerscope.analyses.skipping.window_streams import Windows

NAMES = ("value", "control", "loss", "moved", "predicted")


class WindowTotals:
    """Sums over tokens by group of texts, for every window."""

    def __init__(self, blocks: int, longest: int, groups: int) -> None:
        self.windows = [
            (i, n) for i in range(blocks) for n in range(2, min(longest, blocks - i) + 1)
        ]
        self.sums: NDArray[np.float64] = np.zeros((groups, len(self.windows), len(NAMES)))
        self.counts: NDArray[np.float64] = np.zeros((groups, 2))
        """Tokens, and tokens with a next one."""
        self.noise = self.evaluations = 0.0

    def add(self, window: Windows, output: Output, groups: NDArray[np.int64], front: int) -> None:
        """All windows of one start, on one batch of texts."""
        assert window.last is not None
        length = output.ids.shape[1]
        effects = output.of(window.last, [Lane(window.start, 0, length, front)] * len(window.last))
        extra = window.extra
        if extra:
            self.noise = max(self.noise, float(effects["divergence"][1][0].max()))
            tokens = [[length - front, max(0, length - front - 1)]] * len(groups)
            np.add.at(self.counts, groups, tokens)
        changed, control = (effects["divergence"][0][extra + k :: 2] for k in (0, 1))
        loss = effects["loss"][0][extra::2]
        moved, predicted = (
            torch.stack(x)[..., front:].sum(-1) for x in (window.moved, window.predicted)
        )
        values = torch.stack([changed, control, loss, moved, predicted], -1).numpy()
        first = self.windows.index((window.start, 2))
        columns = slice(first, first + len(values))
        np.add.at(self.sums[:, columns], groups, values.swapaxes(0, 1))
        self.evaluations += window.evaluations

    def lines(self, seed: int) -> list[dict[str, Any]]:
        """One line for each window."""
        there = self.counts[:, 0] > 0
        sums, counts = self.sums[there], self.counts[there]
        low, high = mean_intervals(sums[:, :, 0], counts[:, 0], seed=seed)
        means = sums.sum(0) / counts[:, :1].sum()
        means[:, NAMES.index("loss")] = sums[:, :, NAMES.index("loss")].sum(0) / counts[:, 1].sum()
        return [
            {
                "layer": layer,
                "blocks": blocks,
                "value": means[k, 0],
                "ci_low": low[k],
                "ci_high": high[k],
                **dict(zip(NAMES[1:], means[k, 1:].tolist(), strict=True)),
                "noise": self.noise,
                "n": int(counts[:, 0].sum()),
                "n_groups": len(counts),
                "unit": "nats",
                "estimator": "mean over tokens",
            }
            for k, (layer, blocks) in enumerate(self.windows)
        ]
