"""Probes with a form of their own: few directions, a network, prototypes, concepts, a code."""

from __future__ import annotations

from collections.abc import Iterator
from math import cos, exp, log2, pi, sin, sqrt
from statistics import NormalDist
from typing import Any

from layerscope.calibration.instrument import Instrument, Reading
from layerscope.calibration.instruments.probing import (
    FITTED,
    KNOW,
    NOWHERE,
    ROWS,
    THERE,
    accuracies,
    noise,
    phi,
    share_allowed,
    two,
)
from layerscope.calibration.instruments.rows import planted_store
from layerscope.calibration.instruments.sampling import three_errors


def _low_rank(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.probes import fit
    from layerscope.probes.kinds import LowRank

    # Six classes around a circle of radius 5, each in a wedge of 60 degrees: edges 2.5 away.
    y = torch.arange(ROWS) % 6
    x = noise(ROWS, 8, seed)
    x[:, 3] += torch.tensor([5 * cos(k * pi / 3) for k in range(6)])[y]
    x[:, 7] += torch.tensor([5 * sin(k * pi / 3) for k in range(6)])[y]
    lines = accuracies(LowRank(rank=2), x, y, seed)
    best = 1 - 2 * phi(-5 * sin(pi / 6))
    yield Reading("accuracy of rank 2", best, lines[THERE]["value"], share_allowed(best))
    yield Reading(
        "accuracy, nothing planted", 1 / 6, lines[NOWHERE]["value"], three_errors(1 / 6, ROWS)
    )
    weight: Any = getattr(fit(x, y, kind=LowRank(rank=2)), "weight")  # noqa: B009  (of its readout)
    yield Reading("rank of its weights", 2.0, float(torch.linalg.matrix_rank(weight, rtol=1e-4)))


def _mlp(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.probes.kinds import MLP

    # Four heaps at (3, 3), (-3, 3) ...: the class is whether the signs are equal.
    rows = ROWS // 2
    signs = torch.tensor([[1, 1], [-1, -1], [1, -1], [-1, 1]])[torch.arange(rows) % 4]
    x = noise(rows, 4, seed)
    x[:, :2] += 3 * signs
    y = (signs.prod(1) > 0).long()
    kept = phi(3)
    best = kept**2 + (1 - kept) ** 2
    lines = accuracies(MLP(hidden=16, batch=64, lr=0.01, epochs=30), x, y, seed)
    # A trained network is a little below the best one.
    yield Reading("accuracy", best, lines[THERE]["value"], share_allowed(best, rows) + FITTED)
    yield Reading(
        "accuracy, nothing planted", 0.5, lines[NOWHERE]["value"], three_errors(0.5, rows)
    )
    line = accuracies("linear", x, y, seed)[THERE]
    yield Reading("accuracy of a linear probe", 0.5, line["value"], three_errors(0.5, rows))


def _prototypes(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.probes.kinds import Prototypes

    y = torch.arange(ROWS) % 8
    centres = 3 * noise(8, 20, seed)
    lines = accuracies(Prototypes(count=8), centres[y] + 0.05 * noise(ROWS, 20, seed + 3), y, seed)
    yield Reading("accuracy of eight prototypes", 1.0, lines[THERE]["value"])
    yield Reading("purity of their clusters", 1.0, lines[THERE]["purity"])
    yield Reading(
        "accuracy, nothing planted", 1 / 8, lines[NOWHERE]["value"], three_errors(1 / 8, ROWS)
    )


def _concepts(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.probes.kinds import Concepts

    # Rows are the concepts of their class, and noise that no concept sees.
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(30, 30, generator=generator)).Q
    matrix = torch.tensor([[k >> b & 1 for b in (0, 1, 2)] for k in (1, 2, 4, 7)]).float()
    matrix = matrix.repeat(1, 4)
    y = torch.arange(ROWS) % 4
    x = 3 * matrix[y] @ axes[:12] + torch.randn(ROWS, 18, generator=generator) @ axes[12:] + 7
    right = accuracies(Concepts(directions=axes[:12], matrix=matrix), x, y, seed)[THERE]
    yield Reading("accuracy with the true table of concepts", 1.0, right["value"])
    wrong = Concepts(directions=axes[:12], matrix=matrix.roll(1, 0))
    yield Reading(
        "accuracy with each class's table given to the next",
        0.0,
        accuracies(wrong, x, y, seed)[THERE]["value"],
    )


def _mdl(seed: int) -> Iterator[Reading]:
    from layerscope.probes import probe
    from layerscope.probes.kinds import MDL

    gap = 3.0
    x, y = two(seed, gap, width=2)
    sites = {NOWHERE: noise(ROWS, 2, seed + 1), THERE: x}
    with planted_store(sites, label=[f"c{k}" for k in y], group=range(ROWS)) as store:
        kind = MDL(orders=2)
        found: Any = probe(
            store, "all", label="label", kind=kind, control=False, seed=seed, progress=False
        )
    blocks = found.table[(found.table["part"] == "block") & (found.table["site"] == THERE)]
    # The second half of the rows, by a probe that has seen the first: log loss of a sample of 1,000,
    # whose standard deviation is about 0.5 bits a row.
    yield Reading(
        "bits per label, last half",
        _left(gap),
        blocks["value"].iloc[-1],
        3 * 0.5 / sqrt(ROWS / 2),
        "bits",
    )
    nothing = found.sites.set_index("site").loc[NOWHERE]
    # Three parameters cost about 3 / 2 log2 of the rows: 16 bits of 2,000.
    yield Reading("compression, nothing planted", 1.0, nothing["value"], 0.02)


def _left(gap: float) -> float:
    """Bits that the class has left, given a row: the mean of log2(1 + exp(-gap z - gap^2 / 2))."""
    normal, points = NormalDist(), 20_000
    middles = (normal.inv_cdf((i + 0.5) / points) for i in range(points))
    return sum(log2(1 + exp(-gap * z - gap**2 / 2)) for z in middles) / points


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "probe.low_rank",
        KNOW,
        "Six classes around a circle, which takes two directions.",
        "1 - 2 Phi(-r sin 30): wedges of 60 degrees",
        _low_rank,
    ),
    Instrument(
        "probe.mlp",
        KNOW,
        "Whether two features have the same sign, which no line can tell.",
        "p^2 + (1 - p)^2, p = Phi(3)",
        _mlp,
    ),
    Instrument(
        "probe.prototypes",
        KNOW,
        "Eight tight heaps, one for each class.",
        "by construction",
        _prototypes,
    ),
    Instrument(
        "probe.concepts",
        KNOW,
        "Rows made of the concepts of their class.",
        "by construction",
        _concepts,
    ),
    Instrument(
        "probe.mdl", KNOW, "Two classes three standard deviations apart.", "H(label | row)", _mdl
    ),
)
