"""The batched torch solver against scikit-learn: seconds, accuracy and objective, same run.

Five cross-validation fits of multinomial logistic regression at one penalty, at several sizes.
`python benchmarks/probe_solver.py [--quick]`
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

import torch
from _common import median_seconds, save
from torch import Tensor

from layerscope.probes.kinds.linear import TOL
from layerscope.probes.solving import scikit, solver
from layerscope.probes.solving.design import Design, Fit

FOLDS = 5
L2 = 10.0
SIZES = (
    (300, 16, 2),
    (1_000, 64, 3),
    (2_000, 64, 12),
    (5_000, 128, 12),
    (25_000, 128, 12),
    (25_000, 64, 17),
    (20_000, 256, 20),
)
QUICK = SIZES[:3]


@dataclass(frozen=True)
class Line:
    """One size: what each solver took, and how far apart they are."""

    rows: int
    width: int
    classes: int
    torch_seconds: float
    sklearn_seconds: float
    speedup: float
    accuracy_torch: float
    accuracy_sklearn: float
    objective_excess: float
    """Of torch over scikit-learn at the tolerance that `probe` uses, relative."""
    objective_excess_tight: float
    """The same with torch run to convergence."""


def planted(rows: int, width: int, classes: int) -> tuple[Tensor, Tensor]:
    """Correlated features, and classes by a noisy linear rule: about three quarters are readable."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(width, width, generator=generator) / width**0.5
    x = torch.randn(rows, width, generator=generator) @ mix
    scores = x @ torch.randn(width, classes, generator=generator)
    noise = scores.std() * torch.randn(rows, classes, generator=generator)
    return x, (scores + 0.5 * noise).argmax(1)


def held_out_accuracy(design: Design, target: Tensor, weights: Tensor) -> float:
    hits = 0
    for fold, weight in enumerate(weights):
        guess = design.scores(fold, weight.to(design.x.device)).argmax(1)
        hits += int((guess == target[design.fold(fold)]).sum())
    return hits / len(target)


def measure(rows: int, width: int, classes: int, device: str) -> Line:
    x, y = planted(rows, width, classes)
    bounds = [rows * fold // FOLDS for fold in range(FOLDS + 1)]
    fits = [Fit(0, (fold,), L2) for fold in range(FOLDS)]
    here, there = Design.of(x, bounds), Design.of(x, bounds, device=device)
    target = y.to(device)

    def ours(tol: float = TOL) -> Tensor:
        design = Design.of(x, bounds, device=device)  # moments are part of the cost
        return solver.logistic(design, target[None], fits, classes=classes, tol=tol).weights

    def theirs() -> Tensor:
        return scikit.logistic(here, y[None], fits, classes=classes).weights

    repeats = 5 if rows <= 5_000 else 1
    seconds = [median_seconds(run, repeats, warmup=repeats > 1) for run in (ours, theirs)]
    best = theirs()

    def total(weights: Tensor) -> float:
        pairs = zip(fits, weights.cpu(), strict=True)
        return sum(solver.objective(here, y, fit, weight) for fit, weight in pairs)

    return Line(
        rows,
        width,
        classes,
        round(seconds[0], 4),
        round(seconds[1], 4),
        round(seconds[1] / seconds[0], 2),
        round(held_out_accuracy(there, target, ours()), 4),
        round(held_out_accuracy(here, y, best), 4),
        round(total(ours()) / total(best) - 1, 6),
        round(total(ours(1e-9)) / total(best) - 1, 6),
    )


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lines = []
    for size in QUICK if "--quick" in sys.argv else SIZES:
        line = measure(*size, device)
        lines.append(line)
        print(
            f"{line.rows:>7,} x {line.width:<4} {line.classes:>2} classes: torch ({device}) "
            f"{line.torch_seconds:.3f} s, scikit-learn {line.sklearn_seconds:.3f} s, "
            f"{line.speedup:.1f} x; accuracy {line.accuracy_torch:.4f} / "
            f"{line.accuracy_sklearn:.4f}; objective {line.objective_excess:+.1e} "
            f"(run out: {line.objective_excess_tight:+.1e})"
        )
    figures = {"fits": FOLDS, "l2": L2, "device": device, "sizes": [asdict(line) for line in lines]}
    save("probe_solver", figures)


if __name__ == "__main__":
    main()
