"""The loss of every architecture of sparse autoencoders, added up by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from layerscope.calibration.instrument import Instrument, Reading

if TYPE_CHECKING:
    from layerscope.analyses.sae.architectures.architecture import Architecture, Loss, Weights

SPARSE = "Sparse dictionaries"
ROWS = ((3.0, 2.5, 0.5), (0.0, 2.0, 1.0))
"""Two rows whose latents are the axes, so that every loss can be added up by hand."""


def _weights(
    *, write: float = 1.0, extra: dict[str, float] | None = None, gate: float = 0.0
) -> Weights:
    """Each latent reads one axis and writes it back `write` times; `gate` is its bias."""
    import torch

    from layerscope.analyses.sae.architectures.architecture import Weights

    eye = torch.eye(3)[None]
    more = {name: torch.full((1, 3), value) for name, value in (extra or {}).items()}
    bias = torch.full((1, 3), gate)
    return Weights(eye.clone(), bias, write * eye, torch.zeros(1, 3), more)


def _loss(architecture: Architecture, weights: Weights, x: Any, y: Any = None) -> Loss:
    """The loss of one batch at which no latent is dead."""
    import torch

    from layerscope.analyses.sae.architectures.architecture import Moment

    dead = torch.zeros(weights.b_enc.shape, dtype=torch.bool)
    moment = Moment(dead=dead, most_dead=0, threshold=torch.zeros(1, dtype=torch.float64))
    with torch.no_grad():
        return architecture.loss(weights, x, x if y is None else y, moment)


def _topk() -> tuple[Architecture, Weights]:
    from layerscope.analyses.sae import TopK

    return TopK(k=(1,)), _weights()


def _batchtopk() -> tuple[Architecture, Weights]:
    from layerscope.analyses.sae import BatchTopK

    return BatchTopK(k=(1,)), _weights()


def _matryoshka() -> tuple[Architecture, Weights]:
    from layerscope.analyses.sae import Matryoshka

    return Matryoshka(k=(1,), widths=(1, 3), level_weights=(1.0, 1.0)), _weights()


def _relu() -> tuple[Architecture, Weights]:
    from layerscope.analyses.sae import ReLU

    return ReLU(l1=(2.0,)), _weights()


def _relu_april() -> tuple[Architecture, Weights]:
    from layerscope.analyses.sae import ReLUApril

    weights = _weights(write=2.0)
    weights.encoder /= 2
    return ReLUApril(l1=(2.0,)), weights


def _gated() -> tuple[Architecture, Weights]:
    from layerscope.analyses.sae import Gated

    return Gated(l1=(2.0,)), _weights(gate=-0.75, extra={"r_mag": 0.0, "b_mag": 0.0})


def _jumprelu() -> tuple[Architecture, Weights]:
    from layerscope.analyses.sae import JumpReLU

    # The trainer keeps thresholds at a tenth, so that they move as fast as the other weights.
    return JumpReLU(penalty="step", strength=(2.0,)), _weights(extra={"slow_threshold": 0.075})


def _afa() -> tuple[Architecture, Weights]:
    from layerscope.analyses.sae import AFA

    return AFA(afa=(1.0,)), _weights()


def _transcoder() -> tuple[Architecture, Weights]:
    from layerscope.analyses.sae import TopK, Transcoder

    return Transcoder(inner=TopK(k=(1,), subtract_b_dec=False)), _weights(write=2.0)


def _read(
    make: Callable[[], tuple[Architecture, Weights]], total: float, l0: float, seed: int
) -> Iterator[Reading]:
    """Loss and L0 of the two rows, in the seed's order; and the loss of rows of zeros."""
    import torch

    architecture, weights = make()
    order = torch.randperm(2, generator=torch.Generator().manual_seed(seed))
    x = torch.tensor(ROWS)[None, order]
    y = 2 * x if architecture.name == "transcoder" else x
    found = _loss(architecture, weights, x, y)
    yield Reading("loss of two rows", total, float(found.total), 1e-5, "squared activation")
    yield Reading("L0", l0, float(found.l0), 1e-6, "latents")
    nothing = _loss(architecture, weights, torch.zeros(1, 2, 3))
    yield Reading("loss of rows of zeros", 0.0, float(nothing.total), 1e-6, "squared activation")


def _crosscoder(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.analyses.sae import Crosscoder
    from layerscope.analyses.sae.architectures.architecture import Weights

    row = torch.tensor([[[0.6, 0.8]]])
    weights = Weights(row, torch.zeros(1, 1), row.clone(), torch.zeros(1, 2))
    architecture = Crosscoder(l1=(2.0,), parts=(1, 1))
    found = _loss(architecture, weights, torch.tensor([[[3.0, 4.0]]]))
    # A code of 5, which pays for 0.6 at one site and 0.8 at the other.
    yield Reading(
        "loss of one row", 2 * 5 * (0.6 + 0.8), float(found.total), 1e-5, "squared activation"
    )
    yield Reading("error of one row", 0.0, float(found.error), 1e-9, "squared activation")
    nothing = _loss(architecture, weights, torch.zeros(1, 2, 2))
    yield Reading("loss of rows of zeros", 0.0, float(nothing.total), 1e-6, "squared activation")


def _architecture(
    name: str,
    make: Callable[[], tuple[Architecture, Weights]],
    total: float,
    l0: float,
    planted: str,
) -> Instrument:
    read = partial(_read, make, total, l0)
    return Instrument(f"sae.{name}", SPARSE, planted, "the two rows, added up by hand", read)


INSTRUMENTS: tuple[Instrument, ...] = (
    # Dropped squares: (2.5^2 + 0.5^2 + 1^2) / 2.
    _architecture("topk", _topk, 3.75, 1, "Two rows of three axes; the larger of each is kept."),
    # 3 and 2.5 are kept, of the first row: (0.5^2 + 2^2 + 1^2) / 2.
    _architecture(
        "batchtopk",
        _batchtopk,
        2.625,
        1,
        "Two rows of three axes; the two largest of both are kept.",
    ),
    # The same, and once more with the first latent alone: (2.5^2 + 0.5^2 + 2^2 + 1^2) / 2 = 5.75.
    _architecture(
        "matryoshka",
        _matryoshka,
        2.625 + 5.75,
        1,
        "Two rows of three axes, rebuilt by all latents and by the first alone.",
    ),
    # No error, and thresholds of 0.75 leave four: 2 * 4 / 2, and 0.5^2 / 2 of error.
    _architecture(
        "jumprelu",
        _jumprelu,
        4.125,
        2,
        "Two rows of three axes, and thresholds that one value is below.",
    ),
    # Error 0.5^2 / 2; price 2 * (2.25 + 1.75 + 1.25 + 0.25) / 2; rebuilt by the gates alone, four
    # values lack 0.75 and one 0.5: (4 * 0.75^2 + 0.5^2) / 2.
    _architecture(
        "gated", _gated, 6.875, 2, "Two rows of three axes, and gates that one value does not open."
    ),
    # 2 * (3 + 2.5 + 0.5 + 2 + 1) / 2, without error.
    _architecture(
        "relu", _relu, 9, 2.5, "Two rows of three axes, rebuilt exactly at a known price."
    ),
    # Codes are half as large and rows twice as long: the price is the same.
    _architecture(
        "relu_april",
        _relu_april,
        9,
        2.5,
        "The same rows with decoder rows of length 2, which must not save anything.",
    ),
    # All latents are never kept, so the first row loses its smallest: 0.5^2 / 2, and three times the
    # squared difference of the norms, of which the second row has none.
    _architecture(
        "afa",
        _afa,
        0.125 + 3 * (15.5**0.5 - 15.25**0.5) ** 2 / 2,
        2,
        "Two rows of three axes, whose norm two values reach, or nearly.",
    ),
    # Twice the axes, so four times the dropped squares of topk.
    _architecture(
        "transcoder",
        _transcoder,
        15,
        1,
        "A second site that is twice the first; the larger of each row is kept.",
    ),
    Instrument(
        "sae.crosscoder",
        SPARSE,
        "One latent that writes 0.6 at one site and 0.8 at another.",
        "one row, added up by hand",
        _crosscoder,
    ),
)
