"""Layers left out, dropped, run side by side, compared: in decoders whose blocks are known matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import atan, cos, hypot
from typing import Any

from layerscope.calibration.instrument import Instrument, Reading

WHAT_IF, LOOKS = "What if", "What they look like"
RATIOS = (1.0, 0.5, 0.2, 0.0)
"""How long what each block adds is, against the stream; at a right angle to it."""
ROUNDING = 1e-6
"""Norms compute in float32, so states are right to about 1e-7 of their size."""


def texts(vocabulary: int, count: int, length: int, seed: int) -> list[list[int]]:
    """Texts of random tokens, as ids."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    found: list[list[int]] = torch.randint(
        vocabulary, (count, length), generator=generator
    ).tolist()
    return found


def listed(values: Any) -> str:
    """Whole numbers as words, so that a whole curve is one reading."""
    return " ".join(str(int(value)) for value in values) or "none"


def _layer_skip(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import layer_skip
    from layerscope.planted.turns import turning

    model = turning(RATIOS, seed=seed)
    found = layer_skip(model, texts(31, 4, 6, seed), cuts=0, progress=False).table
    cells = found[found["tokens"] == "all"].set_index(["measure", "layer", "later"])["value"]
    for skipped, ratio in enumerate(RATIOS[:2]):
        yield Reading(
            f"relative change at block 2 without block {skipped}",
            ratio / hypot(1, ratio),
            cells["later", skipped, 2],
            ROUNDING,
        )
    direct = RATIOS[0] / hypot(1, RATIOS[0]) / hypot(1, RATIOS[1])
    yield Reading(
        "direct change at block 2 without block 0", direct, cells["direct", 0, 2], ROUNDING
    )
    still = found[(found["measure"] == "output") & (found["layer"] == 3)]["value"].iloc[0]
    yield Reading("change of the output without a block that adds nothing", 0.0, still)


def _ffn_skip(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import ffn_skip
    from layerscope.planted.turns import turning

    # Cosines 1 / sqrt(1 + ratio^2): block 3 is the first above 0.95, so 4 and 5 are skipped.
    ratios = (1.0, 0.9, 0.8, 0.2, 0.7, 0.1, 0.6, 0.5)
    found = ffn_skip(
        turning(ratios, seed=seed),
        texts(31, 4, 6, seed),
        thresholds=[0.95, 1.1],
        cold_end=2,
        warm_up=0,
        progress=False,
    ).table
    yield Reading("share of MLPs skipped", 2 / 8, found["share"][0], 1e-9)
    yield Reading("share skipped, threshold out of reach", 0.0, found["share"][1])
    yield Reading("added loss, threshold out of reach", 0.0, found["value"][1], unit="nats")


DEGREES = (100, 80, 0, 120, 120, 120, 70)
"""Block 2 does nothing; 3, 4 and 5 turn by a whole circle together."""


def _layer_drop(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import layer_drop
    from layerscope.planted.turns import circling

    data = texts(61, 1, 12, seed) * 4  # alike, so that it does not matter which are held out
    found = layer_drop(
        circling(DEGREES, seed=seed), data, most=4, random=1, speed=False, progress=False
    )
    lines = found.table.set_index(["order", "dropped"])

    def line(order: str, dropped: int) -> Any:
        return lines.loc[[(order, dropped)]].iloc[0]

    yield Reading("first to go", "blocks 2", str(line("one-shot", 1)["which"]))
    yield Reading("added loss without it", 0.0, line("one-shot", 1)["added"], ROUNDING, unit="nats")
    run = line("consecutive", 3)
    yield Reading("run of three", "blocks 3, 4, 5", str(run["which"]))
    yield Reading("added loss without the run", 0.0, run["added"], ROUNDING, unit="nats")
    rest = sum(DEGREES) - sum(DEGREES[i] for i in _blocks(line("one-shot", 4)["which"]))
    yield Reading(
        "loss without four blocks",
        _turned_loss(data[0], rest, seed),
        line("one-shot", 4)["value"],
        ROUNDING,
        unit="nats",
    )


def _blocks(which: str) -> list[int]:
    return [int(part) for part in which.removeprefix("blocks ").split(", ")]


def _turned_loss(ids: Sequence[int], degrees: float, seed: int) -> float:
    """Mean next-token loss where states are turned by so much: their two numbers are the logits of
    tokens 0 and 1, and those of all others are 0."""
    import torch

    from layerscope.planted.turns import rotation, states

    logits = torch.zeros(len(ids) - 1, 61, dtype=torch.float64)
    logits[:, :2] = states(61, 2, seed=seed)[list(ids[:-1])] @ rotation(degrees).T
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:])))


def _parallel_windows(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.analyses import parallel_windows
    from layerscope.planted.linear_stack import linear_stack
    from layerscope.planted.turns import states, turning

    data = texts(31, 4, 6, seed)
    found = parallel_windows(turning(RATIOS, seed=seed), data, progress=False).table
    cells = found.set_index(["layer", "blocks"])
    for layer, (a, b) in enumerate(pairwise(RATIOS[:3])):
        yield Reading(
            f"change by blocks {layer} and {layer + 1} side by side",
            a * b / hypot(a + b, a * b),
            cells["moved"][layer, 2],
            ROUNDING,
        )
    blocks = []
    for i in range(3):
        matrix = torch.zeros(6, 6, dtype=torch.float64)
        matrix[3 + i, :3] = torch.tensor([1.0, -0.5, 2.0]) * (i + 1)  # reads 0..2, writes 3..5
        blocks.append(matrix)
    apart = parallel_windows(
        linear_stack(states(31, 6, seed=seed), mlp=blocks), data, progress=False
    ).table
    yield Reading(
        "largest change where no block reads another", 0.0, apart["moved"].max(), ROUNDING
    )
    yield Reading("largest divergence there", 0.0, apart["value"].max(), ROUNDING, unit="nats")


def _depth_use(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import depth_use
    from layerscope.planted.turns import turning

    found = depth_use(turning(RATIOS, seed=seed), texts(31, 4, 7, seed), twin=False, progress=False)
    norms = found.curve("relative_norm", "block")["value"].tolist()
    cosines = found.curve("cosine", "block")["value"].abs()
    for layer in (0, 2):
        yield Reading(
            f"norm added by block {layer} over the stream's", RATIOS[layer], norms[layer], ROUNDING
        )
    yield Reading("norm added by a block that adds nothing", 0.0, norms[3])
    yield Reading("largest |cosine| of what is added and the stream", 0.0, cosines.max(), ROUNDING)
    attention = found.curve("relative_norm", "attention")["value"]
    yield Reading("norm added by attention, where there is none", 0.0, attention.max())


def _layer_similarity(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.analyses import layer_similarity
    from layerscope.planted.turns import circling, turning

    ids = torch.tensor(texts(31, 4, 7, seed))
    table = layer_similarity(turning(RATIOS, seed=seed), ids, progress=False).table
    values = table.set_index(["part", "layer", "blocks"])["value"]
    yield Reading("cosine across block 0", 1 / hypot(1, RATIOS[0]), values["block", 0, 1], ROUNDING)
    together = cos(atan(RATIOS[0]) + atan(RATIOS[1]))
    yield Reading("cosine across blocks 0 and 1", together, values["window", 0, 2], ROUNDING)
    yield Reading("cosine across attention, which adds nothing", 1.0, values["attention", 1, 1])
    circle = layer_similarity(circling(DEGREES, seed=seed), ids, progress=False)
    start, value = circle.window(3)
    yield Reading("most similar run of three blocks starts at", 3.0, float(start))
    yield Reading("cosine across it: a whole circle", 1.0, value, ROUNDING)


def _linear_maps(seed: int) -> Iterator[Reading]:
    from layerscope.analyses import linear_maps
    from layerscope.planted.staircase import STEPS, VOCAB, staircase

    shallow, deep = staircase(seed=seed)
    found = linear_maps(
        shallow, deep, texts(VOCAB, 60, 12, seed), ridge=1e-12, twin=False, progress=False
    )
    yield Reading("best source of each layer", listed(STEPS), listed(found.best["source_index"]))
    yield Reading("largest unexplained share there", 0.0, found.best["value"].max(), 1e-8)
    others = found.table[~found.table["best"]]["value"]
    yield Reading("other pairs that a linear map explains", 0.0, float((others < 1e-3).sum()))


TURNS = "blocks are known turns of the state: trigonometry"
INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "layer_similarity",
        LOOKS,
        "Blocks that turn the state by known angles; three of them by a whole circle together.",
        TURNS,
        _layer_similarity,
    ),
    Instrument(
        "linear_maps",
        LOOKS,
        "A deep model that takes two blocks for each block of a shallow one, in a larger rotated basis.",
        "by construction",
        _linear_maps,
    ),
    Instrument(
        "depth_use",
        WHAT_IF,
        "Blocks that add 1, 0.5, 0.2 and 0 times the stream, at a right angle to it.",
        TURNS,
        _depth_use,
    ),
    Instrument(
        "layer_skip",
        WHAT_IF,
        "Blocks that add 1, 0.5, 0.2 and 0 times the stream, at a right angle to it.",
        TURNS,
        _layer_skip,
    ),
    Instrument(
        "ffn_skip",
        WHAT_IF,
        "Eight MLPs, of which the fourth is the first to leave the state nearly as it is.",
        "blocks are known turns of the state: the policy's rule, by hand",
        _ffn_skip,
    ),
    Instrument(
        "layer_drop",
        WHAT_IF,
        "One block that does nothing, and three that turn by a whole circle together.",
        TURNS,
        _layer_drop,
    ),
    Instrument(
        "parallel_windows",
        WHAT_IF,
        "Blocks that add 1, 0.5, 0.2 and 0 times the stream; and blocks that do not read each other.",
        "(1 + A)(1 + B) - (1 + A + B) = AB for known turns A, B",
        _parallel_windows,
    ),
)
