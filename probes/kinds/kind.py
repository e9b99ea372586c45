"""What a kind of probe is: how it is trained on rows, and what it says of rows it did not see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.reading.labels import Task
from layerscope.probes.reading.rows import Pieces
from layerscope.probes.solving.design import Design
from layerscope.probes.solving.engine import Engine, Solver

if TYPE_CHECKING:
    from layerscope.probes.finding import ProbeFinding
    from layerscope.probes.reading.sources import Layers, Source
    from layerscope.probes.readouts.readout import Readout


@dataclass(frozen=True)
class Work:
    """Rows of one site with what they should be; rows of one fold are adjacent."""

    design: Design
    targets: Tensor
    """``[tasks, rows]`` class numbers, or float64 numbers; the first chooses what is tuned."""
    classes: int
    """How many; 0 where the targets are numbers."""
    engine: Engine
    """Who solves convex fits, and where."""
    groups: NDArray[np.int64]
    """``[rows]`` what must not straddle a split."""
    seed: int = 0
    index: NDArray[np.int64] | None = None
    """``[rows]`` where each row is in the store; None where there is none."""
    further: Further | None = None
    """The other label of these rows, for a kind that asks for one."""


@dataclass(frozen=True)
class Further:
    """A second label column on the rows of a `Work`."""

    codes: NDArray[np.int64]
    """``[rows]`` class numbers; -1 where a row has none."""
    classes: tuple[Any, ...]


@dataclass(frozen=True)
class Predictions:
    """What probes say about rows that they did not see."""

    values: NDArray[Any]
    """``[tasks, rows]`` class numbers, or numbers."""
    penalties: tuple[float, ...] = ()
    """The one chosen for each fold; empty where there is none."""
    unfinished: int = 0
    """Probes that stopped before they had converged."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """What this kind adds to the line of the site in the table."""


class Kind(ABC):
    """A way to read something off activations; subclasses are frozen dataclasses of its options."""

    name: ClassVar[str]
    """As in ``probe(..., kind=name)``."""
    rows: ClassVar[str | None] = None
    """Row rule that `extract` uses for a model where the user names none."""

    def options(self) -> dict[str, Any]:
        """Its options as JSON values, for the provenance of what it measured."""
        return {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]

    def written(self) -> str:
        """It as an argument of `probe`: its name, or a call with the options that are no defaults.

        A tensor is written as ``...``, which only the user can fill in.
        """
        given = []
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                given.append(f"{item.name}=...")
            elif value != item.default:
                given.append(f"{item.name}={value!r}")
        return f"kinds.{type(self).__name__}({', '.join(given)})" if given else repr(self.name)


class LabelKind(Kind):
    """Predicts the label of each row from one site; scored by cross-validation."""

    tasks: ClassVar[tuple[Task, ...]] = ("class",)
    """What it can predict."""
    rule: ClassVar[str]
    """One clause for the notes: how features are scaled and what is tuned."""

    def further_label(self) -> str | None:
        """Another label column that it needs on the same rows."""
        return None

    @abstractmethod
    def estimator(self, task: Task) -> str:
        """What is fitted, for the column of this name."""

    def solved_by(self, engine: Engine, task: Task) -> str:
        """Who solves its fits, for the notes: the engine, unless the kind has a way of its own."""
        return str(engine)

    @abstractmethod
    def predict(self, work: Work) -> Predictions:
        """Out-of-fold predictions: every row by a probe that saw no row of its fold."""

    @abstractmethod
    def fit(self, work: Work, classes: tuple[Any, ...]) -> Readout:
        """The readout of the first target, trained on all rows; the folds choose what is tuned."""


@dataclass(frozen=True)
class Asked:
    """What the user asked of `probe`, apart from the source and the kind."""

    layer: Layers = "all"
    label: str | None = None
    task: Task | None = None
    control: bool = True
    pieces: Pieces = "last"
    folds: int = 5
    seed: int = 0
    solver: Solver = "auto"
    device: str | None = None
    max_rows: int = 50_000
    progress: bool = True
    labels: tuple[str, ...] = ()
    """All labels, where there are several; `label` is then the first."""


class SourceKind(Kind):
    """Needs more than one row and one label at a time: trees, pairs, traces, several layers."""

    needs_label: ClassVar[bool] = True
    """Whether it reads a label that the user names; trees are where they are."""
    whole_texts: ClassVar[bool] = False
    """Whether that label must have one value per text."""

    @abstractmethod
    def measure(self, source: Source, asked: Asked) -> ProbeFinding:
        """The finding; `probe` fills in the seconds."""
