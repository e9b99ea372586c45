"""Mutual information by every estimator of the house, on pairs whose information is known."""

from __future__ import annotations

from collections.abc import Iterator
from math import log, sqrt
from typing import TYPE_CHECKING, Any, get_args

from layerscope.calibration.instrument import Instrument, Reading

if TYPE_CHECKING:
    from torch import Tensor

KNOW = "What the layers know"
CRITICS = ("infonce", "nwj", "dv", "smile")
"""Estimators that train a network; they have an instrument of their own."""


def estimators(kind: str) -> list[str]:
    """Names of all estimators for pairs of this kind, but the critics."""
    from layerscope.analyses.information.catalogue import ESTIMATORS

    return [n for n, one in ESTIMATORS.items() if one.kind == kind and n not in CRITICS]


def _values(x: Tensor, y: Tensor, names: list[str], seed: int) -> Any:
    """Estimator -> line of the finding, in nats."""
    from layerscope.analyses import mutual_information

    found = mutual_information(
        x, y, estimators=names, unit="nats", permutations=2, seed=seed, progress=False
    )
    return found.table.set_index("estimator")


def _continuous(seed: int) -> Iterator[Reading]:
    from layerscope.planted.clouds import exactly_white

    rows, correlation = 400, 0.8
    truth = -log(1 - correlation**2) / 2
    white = exactly_white(rows, 2, seed=seed)
    x, noise = white[:, :1], white[:, 1:]
    names = estimators("continuous")
    bound = _values(x, correlation * x + sqrt(1 - correlation**2) * noise, names, seed)["value"]
    alone = _values(x, noise, names, seed)["value"]
    for name in names:
        yield Reading(f"{name}, correlation 0.8", truth, bound[name], _allowed(name, rows), "nats")
    for name in names:
        yield Reading(f"{name}, nothing shared", 0.0, alone[name], _allowed(name, rows), "nats")


def _allowed(name: str, rows: int) -> float:
    """Of one pair of numbers in so many rows, whose correlation is exactly what it should be."""
    if name in ("gaussian", "copula"):
        # The correlation is exact: what is left is the correction of its usual bias, and ranks,
        # each 1 / sqrt(rows) off its place, whose errors go into the information squared.
        return 10 / rows
    # A nearest-neighbour density is a count of k = 5: its logarithm varies by trigamma(5) = 0.22
    # a row. Kernels and bins are smoother, and blur a twentieth of a nat away.
    error = 3 * sqrt(2 * 0.22 / rows) + 0.05
    # The weighted sum over k has weights of either sign, whose squares sum to about 10.
    return error * (sqrt(10) if name == "wkl" else 1)


def _labels(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.planted.clouds import exactly_white

    rows = 400
    y = torch.arange(rows) % 2
    generator = torch.Generator().manual_seed(seed)
    near = 0.01 * torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    names = estimators("labels")
    apart = _values(near + 2.0 * y[:, None] - 1, y, names, seed)["value"]
    for name in names:
        # Two far clusters: log 2 whatever the neighbours, bins or kernels; probes end a little below.
        yield Reading(f"{name}, two far classes", log(2), apart[name], 0.02, "nats")
    noise = exactly_white(rows, 1, seed=seed)
    alone = _values(noise, y, names, seed)["value"]
    for name in names:
        # The plug-in of c cells is (c - 1) / 2 rows too large; its spread is sqrt(2 c) / 2 rows.
        # Neighbours count 3 at a time: 0.39 is trigamma(3).
        allowed = 3 * sqrt(0.39 / rows) if name == "ross" else 0.05
        yield Reading(f"{name}, nothing shared", 0.0, alone[name], allowed, "nats")


def _discrete(seed: int) -> Iterator[Reading]:
    import torch
    from scipy.special import digamma

    def entropy(counts: list[int]) -> float:
        total = sum(counts)
        return -sum(n / total * log(n / total) for n in counts)

    def grassberger(counts: list[int]) -> float:
        """Grassberger 2003, equation 26: log N minus the mean of G(n)."""
        total = sum(counts)
        found = [
            digamma(n) + (-1) ** n / 2 * (digamma((n + 1) / 2) - digamma(n / 2)) for n in counts
        ]
        return float(log(total) - sum(n * g for n, g in zip(counts, found, strict=True)) / total)

    generator = torch.Generator().manual_seed(seed)
    for name, cells in (("tied", [60, 20, 20, 60]), ("nothing shared", [40, 40, 40, 40])):
        order = torch.randperm(160, generator=generator)
        drawn = torch.repeat_interleave(torch.arange(4), torch.tensor(cells))[order]
        found = _values(drawn // 2, drawn % 2, estimators("discrete"), seed)["value"]
        plug_in = 2 * entropy([80, 80]) - entropy(cells)
        yield Reading(f"plug-in, {name}", plug_in, found["plug-in"], 1e-9, "nats")
        # 1 + 1 - 3 degrees of freedom over twice the rows.
        corrected = plug_in - 1 / 320
        yield Reading(f"Miller-Madow, {name}", corrected, found["miller-madow"], 1e-9, "nats")
        theirs = 2 * grassberger([80, 80]) - grassberger(cells)
        yield Reading(f"Grassberger, {name}", theirs, found["grassberger"], 1e-9, "nats")


def _critics(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.analyses.information.critics import Objective, Training, critic_value
    from layerscope.planted.exact_information import clusters

    x, y = clusters("two clusters", torch.eye(2), 1).sample(100, seed)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    # Not through `mutual_information`, which trains each critic to its end and twice more for the
    # null: a minute for what two hundred steps show.
    short = Training(steps=200, seed=seed)
    names: tuple[Objective, ...] = get_args(Objective)
    for name in names:
        # Of 40 held-out rows in two clusters log(40 / count) varies by 1 / sqrt(40) a row, and its
        # mean by the square of that; the rest is what is still to be learnt when training stops.
        bound = critic_value(x, y, name, short)
        yield Reading(f"{name}, two clusters", log(2), bound, 0.2, "nats")
        # A network of 600 weights and 40 rows that have nothing to tell loses on other rows.
        alone = critic_value(x, y[order], name, short)
        yield Reading(f"{name}, pairs at random", 0.0, alone, 0.2, "nats")


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "mutual_information.continuous",
        KNOW,
        "Two normal variables whose correlation is exactly 0.8, or exactly 0.",
        "closed form: minus half the logarithm of 1 - 0.64",
        _continuous,
    ),
    Instrument(
        "mutual_information.labels",
        KNOW,
        "Two far clusters with a label each; and noise with the same labels.",
        "closed form: log 2 nats, and 0",
        _labels,
    ),
    Instrument(
        "mutual_information.discrete",
        KNOW,
        "Pairs of labels in exactly 60, 20, 20 and 60 rows, or 40 in each cell.",
        "counts of the construction; Miller 1955, Grassberger 2003",
        _discrete,
    ),
    Instrument(
        "mutual_information.critics",
        KNOW,
        "Two clusters of x that go with two clusters of y, and the same in random pairs.",
        "closed form: log 2 nats, and 0",
        _critics,
    ),
)
