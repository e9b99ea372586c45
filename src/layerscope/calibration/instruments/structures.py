"""Probes of more than one label: mixes of layers, pooled tokens, trees, pairs and traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import pi, sqrt
from typing import TYPE_CHECKING, Any

from layerscope.calibration.instrument import Instrument, Reading
from layerscope.calibration.instruments.probing import (
    FITTED,
    KNOW,
    NOWHERE,
    THERE,
    phi,
    share_allowed,
)
from layerscope.calibration.instruments.rows import planted_store
from layerscope.calibration.instruments.sampling import three_errors

if TYPE_CHECKING:
    from torch import Tensor


def _measured(
    sites: Mapping[str, Tensor], read: str | None, kind: Any, seed: int, **columns: Any
) -> Any:
    from layerscope.probes import probe

    with planted_store(sites, **columns) as store:
        return probe(
            store, "all", label=read, kind=kind, control=False, folds=3, seed=seed, progress=False
        )


def _scalar_mix(seed: int) -> Iterator[Reading]:
    from layerscope.planted.mixes import labelled_layer
    from layerscope.probes.kinds import ScalarMix

    rows = 1000
    stack, y = labelled_layer(rows, 4, 6, where=2, seed=seed)
    sites = {f"blocks.{i}.resid_post": layer for i, layer in enumerate(stack)}
    names = ["ab"[k] for k in y]
    found = _measured(sites, "label", ScalarMix(concat=0), seed, label=names, group=range(rows))
    layers = found.table[found.table["part"] == "layer"].set_index("layer")
    # A softmax that is trained comes near 1 and never gets there.
    yield Reading("weight of the layer that knows", 1.0, layers["weight"][2], 0.05)
    yield Reading("weight of the three others together", 0.0, layers["weight"].drop(2).sum(), 0.05)
    yield Reading("centre of gravity", 2.0, found.part("mix")["centre"], 0.1, "blocks")
    best = phi(2)
    yield Reading(
        "accuracy of the mix", best, found.part("mix")["value"], share_allowed(best, rows)
    )
    nothing = layers["value"].drop(2)
    farthest = nothing[(nothing - 0.5).abs().idxmax()]
    # The farthest of three: one in 370 each, as everywhere, times three.
    yield Reading("accuracy of a layer that knows nothing", 0.5, farthest, three_errors(0.5, rows))


def _pooling(seed: int) -> Iterator[Reading]:
    import numpy as np

    from layerscope.planted.mixes import labelled_mean
    from layerscope.probes.kinds import Pooling

    texts, tokens, shift = 600, 17, 0.5
    x, text, y = labelled_mean([tokens] * texts, 4, shift=shift, seed=seed)
    found = _measured(
        {THERE: x},
        "label",
        Pooling(poolings=("last", "mean", "first")),
        seed,
        text=text.numpy(),
        position=np.tile(np.arange(tokens), texts),
        label=["ab"[k] for k in y[text]],
        group=text.tolist(),
    )
    values = found.table.set_index("pooling")["value"]
    for name, best in (("mean", phi(shift * (tokens - 1) / sqrt(tokens))), ("first", phi(shift))):
        yield Reading(
            f"accuracy, {name} of the tokens".replace("first of the tokens", "first token"),
            best,
            values[name],
            share_allowed(best, texts),
        )
    yield Reading(
        "accuracy, last token, which knows nothing", 0.5, values["last"], three_errors(0.5, texts)
    )


def _structural(seed: int) -> Iterator[Reading]:
    import numpy as np
    import torch

    from layerscope.planted.trees import dependency_plant
    from layerscope.probes.kinds import Structural

    plant = dependency_plant(90, longest=10, axes=12, noise=6, seed=seed)
    lengths = np.array([len(tree) for tree in plant.heads])
    text = np.repeat(np.arange(len(lengths)), lengths)
    noise = torch.randn(plant.x.shape, generator=torch.Generator().manual_seed(seed))
    found = _measured(
        {THERE: plant.x, NOWHERE: noise},
        None,
        Structural(epochs=0),
        seed,
        text=text,
        group=text,
        word_index=np.concatenate([np.arange(n) for n in lengths]),
        word=[f"w{i}" for i in range(len(text))],
        head=np.concatenate([tree + 1 for tree in plant.heads]),
    )
    scores = found.table[found.table["part"] == "score"].set_index(["site", "measure"])["value"]
    yield Reading("edges found (UUAS)", 1.0, scores[THERE, "uuas"])
    # Least squares without the descent that follows it: distances near their whole numbers.
    yield Reading("rank correlation of distances (DSpr)", 1.0, scores[THERE, "dspr"], 0.002)
    yield Reading("roots found", 1.0, scores[THERE, "root"])
    # In noise every tree on n words is as likely as with its words renamed: n - 1 of n (n - 1) / 2
    # edges, and one word of n.
    edges = int((lengths - 1).sum())
    by_chance = float((2 * (lengths - 1) / lengths).sum() / edges)
    yield Reading(
        "edges found in noise", by_chance, scores[NOWHERE, "uuas"], three_errors(by_chance, edges)
    )
    root = float((1 / lengths).mean())
    yield Reading(
        "roots found in noise", root, scores[NOWHERE, "root"], three_errors(root, len(lengths))
    )


def _ast(seed: int) -> Iterator[Reading]:
    import numpy as np

    from layerscope.planted.trees import binary_plant
    from layerscope.probes.kinds import AST

    plant = binary_plant(300, longest=12, labels=4, unary=3, noise=4, width=24, seed=seed)
    lengths = [len(tree) for tree in plant.unary]
    text = np.repeat(np.arange(len(lengths)), lengths)
    found = _measured(
        {THERE: plant.x},
        None,
        AST(),
        seed,
        text=text,
        group=text,
        word_index=np.concatenate([np.arange(length) for length in lengths]),
        tree_height=[h for tree in plant.heights for h in (None, *tree)],
        tree_label=[label for tree in plant.labels for label in (None, *tree)],
        tree_unary=[label for tree in plant.unary for label in tree],
    )
    scores = found.table.set_index("measure")["value"]
    yield Reading("F1 of constituents", 1.0, scores["f1"])
    yield Reading("F1 of those inside", 1.0, scores["inner"])


def _ccs(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.planted.contrasts import contrast_pairs

    pairs, truth = 600, 2.0
    there = contrast_pairs(pairs, 8, truth=truth, seed=seed)
    nowhere = contrast_pairs(pairs, 8, truth=0.0, seed=seed + 1)
    own = there.truth.tolist()
    found = _measured(
        {
            name: torch.stack([x.first, x.second], 1).flatten(0, 1)
            for name, x in ((THERE, there), (NOWHERE, nowhere))
        },
        "true",
        "ccs",
        seed,
        pair=[i // 2 for i in range(2 * pairs)],
        side=["yes" if i % 2 == 0 else "no" for i in range(2 * pairs)],
        true=[own[i // 2] == (i % 2 == 0) for i in range(2 * pairs)],
        group=[i // 2 for i in range(2 * pairs)],
    )
    lines = found.table.set_index("site")
    # Sides are 2 truth apart twice over, in noise of standard deviation sqrt(2).
    best = phi(2 * truth / sqrt(2))
    yield Reading(
        "accuracy, found without labels", best, lines["value"][THERE], share_allowed(best, pairs)
    )
    yield Reading(
        "accuracy with labels", best, lines["supervised"][THERE], share_allowed(best, pairs)
    )
    # The better of a share and its complement: the mean and deviation of a folded normal.
    spread = 0.5 / sqrt(pairs)
    folded = 0.5 + spread * sqrt(2 / pi)
    yield Reading(
        "accuracy, no truth planted", folded, lines["value"][NOWHERE], 3 * spread * sqrt(1 - 2 / pi)
    )


def _clue(seed: int) -> Iterator[Reading]:
    import numpy as np
    import torch

    from layerscope.planted.contrasts import centroid_accuracy, trace_deltas

    traces, layers, width = 800, 3, 8
    for gap, name in ((1.5, "accuracy over three layers"), (0.0, "accuracy, nothing planted")):
        deltas, correct = trace_deltas(traces, layers, width, gap=gap, seed=seed)
        generator = torch.Generator().manual_seed(seed + 1)
        first = torch.randn(traces, layers, width, generator=generator)
        ends = torch.stack([first, first + deltas], 1).flatten(0, 1)
        found = _measured(
            {f"blocks.{layer}.resid_post": ends[:, layer] for layer in range(layers)},
            "correct",
            "clue",
            seed,
            text=np.arange(2 * traces) // 2,
            position=np.arange(2 * traces) % 2,
            correct=np.repeat(correct.numpy(), 2),
            group=np.arange(2 * traces) // 2,
        )
        best = centroid_accuracy(gap, layers, width, traces * 2 // 3)
        yield Reading(
            name, best, found.whole["value"], three_errors(best, traces) + FITTED * (gap > 0)
        )


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "probe.scalar_mix",
        KNOW,
        "Four layers, of which the third alone tells two classes four standard deviations apart.",
        "by construction; Phi(2)",
        _scalar_mix,
    ),
    Instrument(
        "probe.pooling",
        KNOW,
        "Texts whose tokens each say a little of their class, but for the last, which says nothing.",
        "Phi(s (n - 1) / sqrt(n)) for n tokens shifted by s",
        _pooling,
    ),
    Instrument(
        "probe.structural",
        KNOW,
        "Words that lie where their dependency tree puts them, beneath noise and a rotation.",
        "by construction; in noise the mean over random trees, 2 / n",
        _structural,
    ),
    Instrument(
        "probe.ast",
        KNOW,
        "Words whose neighbours lie as far apart as the height of the tree between them.",
        "by construction",
        _ast,
    ),
    Instrument(
        "probe.ccs",
        KNOW,
        "Pairs of statements and their negations with truth along one axis, and form along another.",
        "Phi(2 t / sqrt(2)); without truth, the mean of a folded normal",
        _ccs,
    ),
    Instrument(
        "probe.clue",
        KNOW,
        "Traces whose changes differ by 1.5 between right and wrong ones, in each of three layers.",
        "Phi of the gap over the noise of rows and centroids",
        _clue,
    ),
)
