"""Probes of one label: Gaussian classes whose best accuracy is known, and rows that know nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from layerscope.calibration.instrument import Instrument, Reading
from layerscope.calibration.instruments.rows import planted_store
from layerscope.calibration.instruments.sampling import three_errors

if TYPE_CHECKING:
    from torch import Tensor

KNOW = "What the layers know"
ROWS, GAP = 2000, 2.0
THERE, NOWHERE = "blocks.1.resid_post", "blocks.0.resid_post"
"""The site with the label, and one that knows nothing of it."""
FITTED = 0.005
"""What a readout fitted to some thousand rows falls short of the best one: about (features + 1) /
(2 rows), or less."""


def phi(z: float) -> float:
    """The standard normal distribution function."""
    return NormalDist().cdf(z)


def share_allowed(share: float, rows: int = ROWS) -> float:
    """Sampling of the test rows, and of the rows that the readout was fitted to."""
    return three_errors(share, rows) + FITTED


def noise(rows: int, width: int, seed: int) -> Tensor:
    import torch

    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def accuracies(
    kind: Any, there: Tensor, y: Sequence[int] | Tensor, seed: int, **columns: Any
) -> dict[str, Any]:
    """Lines of `probe` at both sites, by site."""
    from layerscope.probes import probe

    names = [f"c{int(k)}" for k in y]
    sites = {NOWHERE: noise(len(names), there.shape[1], seed + 1), THERE: there}
    with planted_store(sites, label=names, group=range(len(names)), **columns) as store:
        found = probe(
            store, "all", label="label", kind=kind, control=False, seed=seed, progress=False
        )
    return {line["site"]: line for _, line in found.table.iterrows()}


def two(seed: int, gap: float = GAP, width: int = 4) -> tuple[Tensor, Tensor]:
    """Two classes of unit noise whose means are `gap` apart along the first axis.

    Along it, the rows of a class are the quantiles of the normal distribution rather than draws, so
    the best accuracy is exact and not itself a sample.
    """
    import torch

    y = torch.arange(ROWS) % 2
    x = noise(ROWS, width, seed)
    levels = (torch.arange(ROWS // 2) + 0.5) / (ROWS // 2)
    for k in (0, 1):
        order = torch.randperm(ROWS // 2, generator=torch.Generator().manual_seed(2 * seed + k))
        x[y == k, 0] = torch.special.ndtri(levels)[order] + gap * (k - 0.5)
    return x, y


def _two_classes(kind: str) -> Any:
    def read(seed: int) -> Iterator[Reading]:
        lines = accuracies(kind, *two(seed), seed)
        best = phi(GAP / 2)
        yield Reading("accuracy", best, lines[THERE]["value"], 2 * FITTED)
        yield Reading(
            "accuracy, nothing planted", 0.5, lines[NOWHERE]["value"], three_errors(0.5, ROWS)
        )

    return read


def _number(seed: int) -> Iterator[Reading]:
    """Half of the variance of a number is a linear function of the rows."""
    from layerscope.probes import probe

    x = noise(ROWS, 4, seed)
    size = (x[:, 0] + noise(ROWS, 1, seed + 2)[:, 0]).tolist()
    with planted_store({THERE: x}, size=size, group=range(ROWS)) as store:
        found = probe(store, "all", label="size", kind="ridge", control=False, progress=False)
    # Of a squared correlation R: sqrt(4 R (1 - R)^2 / n).
    error = sqrt(4 * 0.5 * 0.25 / ROWS)
    yield Reading("R2 of a number", 0.5, found.table["value"][0], 3 * error + FITTED)


def _ridge(seed: int) -> Iterator[Reading]:
    yield from _two_classes("ridge")(seed)
    yield from _number(seed)


def _stretched(kind: str, best: float) -> Any:
    """Noise of variance 25 along the first axis; means (2, 2, 0, ...) apart."""

    def read(seed: int) -> Iterator[Reading]:
        import torch

        y = torch.arange(ROWS) % 2
        x = noise(ROWS, 6, seed)
        x[:, 0] *= 5
        x[:, :2] += 2 * (y - 0.5)[:, None]
        lines = accuracies(kind, x, y, seed)
        yield Reading("accuracy", best, lines[THERE]["value"], share_allowed(best) + FITTED)
        yield Reading(
            "accuracy, nothing planted", 0.5, lines[NOWHERE]["value"], three_errors(0.5, ROWS)
        )

    return read


# Along the difference of means theta: |theta|^2 / (2 sqrt(theta' S theta)), and with the noise
# whitened: sqrt(theta' S^-1 theta) / 2.
ALONG_MEANS = phi(8 / (2 * sqrt(4 * 25 + 4)))
WHITENED = phi(sqrt(4 / 25 + 4) / 2)


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "probe.linear",
        KNOW,
        "Two classes of unit noise, two standard deviations apart.",
        "Phi(gap / 2)",
        _two_classes("linear"),
    ),
    Instrument(
        "probe.ridge",
        KNOW,
        "Two classes two standard deviations apart; a number of which half is noise.",
        "Phi(gap / 2); 1 / (1 + 1)",
        _ridge,
    ),
    Instrument(
        "probe.mass_mean",
        KNOW,
        "Two classes in noise that is five times as long along one axis.",
        "Phi(|t|^2 / (2 sqrt(t'St))), t the difference of means, S the noise",
        _stretched("mass_mean", ALONG_MEANS),
    ),
    Instrument(
        "probe.lda",
        KNOW,
        "Two classes in noise that is five times as long along one axis.",
        "Phi(sqrt(t' S^-1 t) / 2), t the difference of means, S the noise",
        _stretched("lda", WHITENED),
    ),
)
