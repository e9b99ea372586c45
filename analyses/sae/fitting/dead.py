"""Which latents have been silent for too long."""

from __future__ import annotations

import torch
from torch import Tensor


class Silence:
    """Rows seen since each latent was last active, [group, latents]."""

    def __init__(self, rows: Tensor, window: int) -> None:
        self.rows = rows
        """int64."""
        self.window = window

    @classmethod
    def none(cls, group: int, latents: int, window: int, device: torch.device) -> Silence:
        return cls(torch.zeros(group, latents, dtype=torch.int64, device=device), window)

    def saw(self, active: Tensor, batch: int) -> None:
        """Count one batch; `active` is [group, latents] bool."""
        self.rows += batch
        self.rows[active] = 0

    @property
    def dead(self) -> Tensor:
        """Silent for `window` rows or more, [group, latents] bool."""
        return self.rows >= self.window
