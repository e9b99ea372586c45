"""What the tests of several kinds use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from layerscope.probes.kinds import as_kind
from layerscope.probes.reading.rows import Plan
from layerscope.probes.scoring.evaluate import Measurement


@pytest.fixture
def planned() -> Callable[..., Plan]:
    """``planned(values, classes=2)``: a plan over rows in order, in equal folds."""

    def make(values: Any, *, classes: int = 2, folds: int = 5, types: Any = None) -> Plan:
        rows = len(values)
        return Plan(
            label="y",
            task="class" if classes else "number",
            index=np.arange(rows),
            bounds=tuple(np.linspace(0, rows, folds + 1).astype(int).tolist()),
            groups=np.arange(rows),
            values=np.asarray(values),
            classes=tuple(range(classes)),
            types=types,
            notes=(),
        )

    return make


@pytest.fixture
def scored(planned) -> Callable[..., dict[str, Any]]:
    """``scored(kind, x, y, classes=2)``: the line of one site."""

    def score(kind: Any, x: Any, y: Any, **more: Any) -> dict[str, Any]:
        measured = Measurement(planned(np.asarray(y), **more), as_kind(kind), solver="torch")
        return measured.score("x", x)

    return score
