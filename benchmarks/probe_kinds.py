"""Every kind of probe on five sites, beside scikit-learn's own estimator on the same folds.

Seconds for all sites with the control task, cross-validated; ratio to the peer's five fits a site
and task at one penalty, where there is a peer. `python benchmarks/probe_kinds.py [--quick]`
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from _common import save
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.kinds import MLP, Concepts, as_kind
from layerscope.probes.kinds.kind import LabelKind
from layerscope.probes.reading.rows import Plan
from layerscope.probes.scoring.evaluate import Measurement

FOLDS = 5
CLASSES = 12
SITES = 5
SIZE = (20_000, 384)
QUICK = (3_000, 64)


@dataclass(frozen=True)
class Line:
    """One kind: its seconds, and its peer's."""

    kind: str
    seconds: float
    accuracy: float
    peer: str | None = None
    peer_seconds: float | None = None
    peer_accuracy: float | None = None
    speedup: float | None = None


def planted(rows: int, width: int) -> tuple[list[Tensor], NDArray[np.int64], NDArray[np.int64]]:
    """Sites in which the class is ever easier to read, the classes, and word types."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(width, width, generator=generator) / width**0.5
    y = torch.randint(0, CLASSES, (rows,), generator=generator)
    means = torch.randn(CLASSES, width, generator=generator)
    noise = torch.randn(rows, width, generator=generator) @ mix
    sites = [noise + strength * means[y] for strength in torch.linspace(0.05, 0.25, SITES)]
    types = torch.randint(0, rows // 10, (rows,), generator=generator)
    return sites, y.numpy(), np.unique(types.numpy(), return_inverse=True)[1]


def plan_of(y: NDArray[np.int64], types: NDArray[np.int64]) -> Plan:
    rows = len(y)
    return Plan(
        label="y",
        task="class",
        index=np.arange(rows),
        bounds=tuple(rows * fold // FOLDS for fold in range(FOLDS + 1)),
        groups=np.arange(rows),
        values=y,
        classes=tuple(range(CLASSES)),
        types=types,
        notes=(),
    )


def peers() -> dict[str, tuple[str, Callable[[], Any]]]:
    """Kind -> scikit-learn's estimator of the same thing."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.neighbors import NearestCentroid
    from sklearn.neural_network import MLPClassifier

    return {
        "linear": ("LogisticRegression", lambda: LogisticRegression(C=0.1, max_iter=1000)),
        "ridge": ("RidgeClassifier", lambda: RidgeClassifier(alpha=100.0)),
        "mass_mean": ("NearestCentroid", NearestCentroid),
        "lda": (
            "LinearDiscriminantAnalysis",
            lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.05),
        ),
        "mlp": (
            "MLPClassifier",
            lambda: MLPClassifier(
                MLP().hidden, batch_size=MLP().batch, early_stopping=True, random_state=0
            ),
        ),
    }


def folds(rows: int) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    number = np.arange(rows) * FOLDS // rows
    for fold in range(FOLDS):
        yield number != fold, number == fold


def peer_run(
    make: Callable[[], Any], sites: list[Tensor], tasks: NDArray[np.int64]
) -> tuple[float, float]:
    """Seconds for all sites and tasks, and accuracy on the first task of the last site."""
    started, hits = time.perf_counter(), []
    for number, x in enumerate(sites):
        z = ((x - x.mean(0)) / x.std(0)).numpy()
        for task, y in enumerate(tasks):
            for train, held in folds(len(y)):
                found = make().fit(z[train], y[train]).predict(z[held]) == y[held]
                if number == len(sites) - 1 and task == 0:
                    hits.append(found)
    return time.perf_counter() - started, float(np.concatenate(hits).mean())


def measure(name: str, kind: LabelKind, sites: list[Tensor], plan: Plan) -> Line:
    measured = Measurement(plan, kind, solver="torch", draws=100)
    tasks = measured.targets.numpy()
    started = time.perf_counter()
    lines = [measured.score(f"site {i}", x) for i, x in enumerate(sites)]
    seconds, accuracy = time.perf_counter() - started, lines[-1]["value"]
    if name not in peers():
        return Line(name, round(seconds, 2), round(accuracy, 4))
    peer, make = peers()[name]
    theirs, reached = peer_run(make, sites, tasks)
    return Line(
        name,
        round(seconds, 2),
        round(accuracy, 4),
        peer,
        round(theirs, 2),
        round(reached, 4),
        round(theirs / seconds, 2),
    )


def main() -> None:
    rows, width = QUICK if "--quick" in sys.argv else SIZE
    sites, y, types = planted(rows, width)
    plan = plan_of(y, types)
    directions = torch.randn(30, width, generator=torch.Generator().manual_seed(1))
    chosen: dict[str, Any] = {
        name: as_kind(name)
        for name in ("linear", "ridge", "mass_mean", "lda", "low_rank", "mlp", "prototypes")
    }
    chosen["concepts"] = Concepts(directions=directions)
    lines = []
    for name, kind in chosen.items():
        line = measure(name, kind, sites, plan)
        lines.append(line)
        beside = "" if line.peer is None else (
            f"; {line.peer} {line.peer_seconds:.2f} s ({line.speedup:.1f} x), "
            f"accuracy {line.peer_accuracy:.4f}"
        )  # fmt: skip
        print(f"{name:>10}: {line.seconds:.2f} s, accuracy {line.accuracy:.4f}{beside}", flush=True)
    about = {"rows": rows, "width": width, "sites": SITES, "classes": CLASSES, "folds": FOLDS}
    save("probe_kinds", {**about, "kinds": [asdict(line) for line in lines]})


if __name__ == "__main__":
    main()
