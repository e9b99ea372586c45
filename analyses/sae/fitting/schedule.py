"""Learning rate and sparsity weight over the steps of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass

REFERENCE_LATENTS = 2**14
REFERENCE_RATE = 2e-4
MOST_WARM_UP = 1000
DECAY = 0.2
"""Part of the steps, at the end, over which the rate falls to 0."""


def default_rate(latents: int) -> float:
    """2e-4 at 16,384 latents, falling with the root of the width (Gao et al. 2024)."""
    return REFERENCE_RATE * math.sqrt(REFERENCE_LATENTS / latents)


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, constant, linear decay to 0 over the last fifth."""

    steps: int

    @property
    def warm_up(self) -> int:
        """Steps until the full rate: a twentieth of all, at most 1000."""
        return max(1, min(MOST_WARM_UP, self.steps // 20))

    def rate(self, step: int) -> float:
        """Factor of the learning rate at `step` (from 0)."""
        decay = max(1.0, self.steps * DECAY)
        return min(1.0, (step + 1) / self.warm_up, (self.steps - step) / decay)

    def penalty(self, step: int) -> float:
        """Factor of a sparsity penalty: full after the first twentieth of all steps."""
        return min(1.0, (step + 1) / max(1.0, self.steps / 20))
