"""What an analysis over training reads: the same rows at every site, step by step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows on which every snapshot is taken."""

    labels: Tensor
    """``[rows]`` int64, numbers of `classes`."""
    classes: tuple[str, ...]
    inputs: Tensor | None = None
    """``[rows, features]``: what the networks were given; None where it is not a vector (text)."""
    groups: Tensor | None = None
    """``[rows]`` int64: rows that belong together (sentence, image); None: each stands alone."""
    shared: bool = True
    """False where every network has rows of its own; the labels are those of the first."""
    shape: tuple[int, ...] = ()
    """Of one input before it was flattened, such as (1, 28, 28); empty: it was a vector."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class TrainingRun(ABC):
    """Snapshots of one network, or of several of one shape that differ in their seed."""

    name: str
    rows: Rows
    steps: tuple[int, ...]
    """When the snapshots were taken, ascending; 0 is before training."""
    seeds: tuple[int, ...]
    """One for each network."""
    sites: tuple[str, ...]
    """From the input to the output; the input itself is not among them."""
    clock: str = "step"
    """What a step counts: ``"epoch"`` or ``"step"``."""
    noise: str = ""
    """The noise inside the networks, in words; empty: they are deterministic."""
    noiseless: tuple[str, ...] = ()
    """Of networks with noise, the sites at and below which there is none: functions of the input."""
    scores: pd.DataFrame | None = None
    """Columns seed, step, split (``train`` or ``test``), loss (nats per row), accuracy."""
    notes: tuple[str, ...] = field(default=())

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__repr__ = TrainingRun.__repr__  # type: ignore[method-assign]  # @dataclass prints tensors

    def __repr__(self) -> str:
        from layerscope.analyses.training.run_text import describe

        return describe(self)

    def _repr_html_(self) -> str:
        from layerscope.analyses.training.run_text import run_card

        return run_card(self)

    @abstractmethod
    def activations(self, step: int, site: str) -> Tensor:
        """``[seeds, rows, width]`` float32: what every network has at `site` at `step`.

        Raises:
            LookupError: a step or site that the run does not have.
        """

    def span(self, site: str) -> Tensor:
        """``[seeds, 2]``: the least and the greatest value at `site` over all snapshots."""
        ends = [torch.stack(torch.aminmax(self._flat(step, site), dim=1)) for step in self.steps]
        every = torch.stack(ends)
        return torch.stack([every[:, 0].amin(0), every[:, 1].amax(0)], dim=1)

    def _flat(self, step: int, site: str) -> Tensor:
        return self.activations(step, site).flatten(1)

    def check_shared(self) -> None:
        """Raises ValueError where every network has rows of its own: there are no common labels."""
        if not self.rows.shared:
            raise ValueError(
                f"every network of {self.name} has rows of its own; train the networks on the same "
                "rows, or give a run of one network at a time"
            )

    def check(self, step: int, site: str) -> None:
        """Raises LookupError, with what there is, for a step or site that the run does not have."""
        if step not in self.steps:
            near = min(self.steps, key=lambda one: abs(one - step))
            raise LookupError(f"no snapshot at {self.clock} {step}; the nearest is {near}")
        if site not in self.sites:
            raise LookupError(f"no site {site!r} in this run; it has {', '.join(self.sites)}")
