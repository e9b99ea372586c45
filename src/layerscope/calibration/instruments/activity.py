"""How many neurons and keys are at work: rows and heads whose numbers are set."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from layerscope.calibration.instrument import Instrument, Reading

if TYPE_CHECKING:
    from torch import Tensor

LOOKS = "What they look like"
SUMS = 1e-5
"""Sums of single precision."""


def _sparsity(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.planted.activity import k_hot

    active, width, silent = 10, 64, 2
    rows, truth = k_hot(60, width, active, seed=seed)
    share = active / (width + silent)
    hot = _passed(torch.cat([rows, torch.zeros(60, silent)], 1), seed)
    yield Reading("active, 10 of 66", share, hot("active", 0, "value"), SUMS, "share")
    yield Reading("never active, 2 of 66", silent, hot("dead", 0, "count"), unit="neurons")
    held = hot("energy", 0.9, "count")
    yield Reading("neurons that hold 90 %", truth["energy"], held, SUMS, "neurons")
    treves = hot("treves_rolls", None, "value")
    yield Reading("Treves-Rolls sparseness, 10 of 66", 1 - share, treves, SUMS)
    even = _passed(torch.ones(60, width), seed)
    yield Reading("active, all alike", 1.0, even("active", 0, "value"), SUMS, "share")
    yield Reading("Hoyer sparseness, all alike", 0.0, even("hoyer", None, "value"), SUMS)
    yield Reading(
        "Treves-Rolls sparseness, all alike", 0.0, even("treves_rolls", None, "value"), SUMS
    )


def _passed(rows: Tensor, seed: int) -> Callable[[str, float | None, str], float]:
    """What `sparsity` says of rows that a model hands on: of a measure at a level, the column."""
    from torch import nn

    from layerscope.analyses import sparsity
    from layerscope.corpus import Samples

    model = nn.Sequential(OrderedDict(act=nn.Identity()))
    found = sparsity(model, Samples(rows), sites="act", seed=seed, progress=False)
    return lambda measure, level, column: float(found.curve(measure, level)[column].item())


def _attention_modes(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.analyses import attention_modes
    from layerscope.planted.known_heads import HEADS, POSITIONS, known_heads

    generator = torch.Generator().manual_seed(seed)
    windows = torch.randint(8, (4, POSITIONS), generator=generator).tolist()
    found = attention_modes(known_heads(), windows, least=1, seed=seed, progress=False)
    heads: Any = found.heads().set_index("head")
    seen = range(1, POSITIONS + 1)
    # 90 % of equal shares: the median over queries of the number that is needed, over that visible.
    needed = sorted(ceil(0.9 * n - 1e-9) for n in seen)[POSITIONS // 2 - 1 : POSITIONS // 2 + 1]
    share = sum(needed) / 2 / ((POSITIONS + 1) / 2)
    even = heads.loc[HEADS.index("even")]
    yield Reading("keys that hold 90 %, even head", share, even["value"], 1e-9, "of the visible")
    yield Reading("modes of the four heads", "I IV IV IV", " ".join(heads["mode"]))
    last = heads.loc[HEADS.index("previous"), "previous_share"]
    # The first query has no key before it.
    yield Reading("attention to the key before", 1 - 1 / POSITIONS, last, 1e-4, "share")
    own = heads.loc[HEADS.index("self"), "self_share"]
    yield Reading("attention to the query itself", 1.0, own, 1e-4, "share")
    first = heads.loc[HEADS.index("sink"), "sink_share"]
    yield Reading("attention to the first key", 1.0, first, 1e-4, "share")
    # An even head gives the first of n visible keys 1 / n.
    chance = sum(1 / n for n in seen) / POSITIONS
    yield Reading(
        "attention to the first key, even head", chance, even["sink_share"], 1e-4, "share"
    )
    yield Reading("heads called sinks", "sink", " ".join(_named(heads["is_sink"], HEADS)))


def _named(chosen: Any, names: Sequence[str]) -> list[str]:
    return [names[head] for head, yes in chosen.items() if yes]


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "sparsity",
        LOOKS,
        "Rows in which exactly 10 of 66 neurons are active and two never are; and rows in which "
        "all are equally active.",
        "counts of the construction",
        _sparsity,
    ),
    Instrument(
        "attention_modes",
        LOOKS,
        "Four heads: one attends evenly, the others to the token before, to the token itself, and "
        "to the first token.",
        "counts of the construction; modes of Ramsauer et al. 2021",
        _attention_modes,
    ),
)
