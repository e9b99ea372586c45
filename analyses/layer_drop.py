"""`layer_drop`: leave out blocks, attentions or MLPs for good; what does it cost, what does it save?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from layerscope.analyses.material.resampling import mean_intervals
from layerscope.analyses.material.texts import Texts, looks_ahead
from layerscope.analyses.skipping.drop_losses import Losses
from layerscope.analyses.skipping.drop_orders import (
    KINDS,
    ORDERS,
    at_random,
    by_loss,
    by_similarity,
    consecutive,
    cosines,
    iterative,
    one_shot,
)
from layerscope.analyses.skipping.drop_speed import Speed
from layerscope.analyses.skipping.layer_drop_finding import COLUMNS, DropFinding
from layerscope.analyses.skipping.skip_inputs import chosen_texts, refuse_model
from layerscope.finding import Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.bypass import Part
from layerscope.hooks.locating.structure import title

if TYPE_CHECKING:
    import pandas as pd

WORDS = {"block": "blocks", "attention": "attention", "mlp": "MLP"}


def layer_drop(
    model: nn.Module,
    data: Any = None,
    *,
    part: Literal["block", "attention", "mlp", "joint"] = "block",
    orders: str | Sequence[str] | None = None,
    by: Literal["similarity", "loss"] = "similarity",
    most: int | None = None,
    random: int = 5,
    speed: bool = True,
    max_texts: int = 64,
    max_tokens: int | None = 256,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> DropFinding:
    """Leave out 1, 2, 3, ... parts of a model, and measure the loss of what remains.

    Parts are chosen on one half of the texts, the loss is measured on the other half (whole groups
    to either side). Beside every choice stand random choices of as many parts, and the time that a
    forward pass of the really reduced model takes, as a share of the whole model's.

    Args:
        model: A causal language model; it is not altered.
        data: Texts, ids or a corpus; None takes bundled sentences.
        part: What is left out: a ``block``, its ``attention``, its ``mlp``, or ``joint``: attention
            and MLP layers ranked together (He et al. 2024).
        orders: Of ``one-shot`` (scored once on the whole model), ``iterative`` (scored again after
            every drop) and ``consecutive`` (the best run of blocks; for blocks by similarity); None
            for all that apply.
        by: ``similarity``: least importance, 1 minus the cosine of input and output; or ``loss``:
            least loss without the part, on the texts for choosing.
        most: The most parts that are left out; None for half of them.
        random: Random choices of as many.
        speed: Whether to measure time: prompts without a cache, so it is no measure of decoding.
        max_texts: More texts are drawn from at random.
        max_tokens: Longer texts are cut.
        tokenizer: Object or path; None takes the model's own.
        seed: Of texts, halves, random choices and intervals.
        progress: Whether to show bars.

    Raises:
        LookupError: a model without blocks, without the part, or without logits.
        ValueError: unknown options, too few texts, or a model whose tokens see later ones.
    """
    started = time.perf_counter()
    chosen = _orders(part, by, orders)
    for kind in KINDS[part]:
        refuse_model(model, kind)
    texts = chosen_texts(model, data, 0, max_texts, max_tokens, tokenizer=tokenizer, seed=seed)
    notes = [*texts.notes]
    if looks_ahead(model, max(texts.prompts.ids, key=len)):
        raise ValueError(
            f"tokens of {type(model).__name__} see later ones, so it has no next-token loss; "
            "layer_similarity works for such models too"
        )
    choosing, held_out = texts.split(0.5, seed=seed)
    candidates = [(kind, b.index) for b in anatomy(model).blocks for kind in KINDS[part]]
    count = _count(most, candidates, random)
    sets = _sets(model, choosing, candidates, chosen, by, count)
    draws = at_random(candidates, count, random, seed)
    losses = Losses(model, held_out)
    table = _table(losses, sets, draws, seed, progress)
    if speed:
        table = _speed(model, held_out, table, sets[chosen[0]], notes, progress)
    notes.append(
        f"Parts were chosen on {len(choosing)} texts and measured on {len(held_out)} others."
    )
    return DropFinding(
        table=_ordered(table.assign(part=part, n=int(losses.counts.sum()))),
        provenance=Provenance(
            model=title(model),
            data=f"{texts.name}, {len(texts)} texts of {texts.tokens:,} tokens",
            call=f"layer_drop(model{', data' if data is not None else ''}, part={part!r})",
            parameters={
                "part": part,
                "orders": list(chosen),
                "by": by,
                "most": count,
                "random": random,
                "max_texts": max_texts,
                "max_tokens": max_tokens,
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=tuple(dict.fromkeys(notes)),
    )


def _orders(part: str, by: str, asked: str | Sequence[str] | None) -> tuple[str, ...]:
    if part not in KINDS:
        raise ValueError(f"part is {', '.join(KINDS)}, not {part!r}")
    if by not in ("similarity", "loss"):
        raise ValueError(f"by is similarity or loss, not {by!r}")
    runs = part == "block" and by == "similarity"
    possible = ORDERS if runs else ORDERS[:2]
    listed = [asked] if isinstance(asked, str) else asked
    chosen = tuple(possible if listed is None else listed)
    for order in chosen:
        if order not in ORDERS:
            raise ValueError(f"orders are {', '.join(ORDERS)}, not {order!r}")
        if order not in possible:
            raise ValueError(f"{order!r} is for blocks by similarity, not for {part} by {by}")
    if not chosen:
        raise ValueError(f"no order asked for: {', '.join(possible)}")
    return chosen


def _count(most: int | None, candidates: Sequence[Part], random: int) -> int:
    limit = len(candidates) - 1
    count = len(candidates) // 2 if most is None else most
    if not 1 <= count <= limit:
        raise ValueError(f"most is 1 to {limit} of {len(candidates)} parts, not {count}")
    if random < 0:
        raise ValueError(f"random is 0 or more, not {random}")
    return count


def _sets(
    model: nn.Module,
    texts: Texts,
    candidates: Sequence[Part],
    orders: Sequence[str],
    by: str,
    most: int,
) -> dict[str, list[list[Part]]]:
    kinds = tuple(dict.fromkeys(kind for kind, _ in candidates))
    if by == "similarity":
        score = by_similarity(model, texts, kinds)
    else:
        score = by_loss(Losses(model, texts), candidates)
    made = {
        "one-shot": lambda: one_shot(score, most),
        "iterative": lambda: iterative(score, most),
        "consecutive": lambda: consecutive(cosines(model, texts, []), most),
    }
    return {order: made[order]() for order in orders}


def _table(
    losses: Losses,
    sets: dict[str, list[list[Part]]],
    draws: Sequence[Sequence[Sequence[Part]]],
    seed: int,
    progress: bool,
) -> pd.DataFrame:
    import pandas as pd
    from tqdm.auto import tqdm

    named: list[tuple[str, int | None, Sequence[Part]]]
    named = [(order, None, dropped) for order, several in sets.items() for dropped in several]
    named += [("random", d, dropped) for d, several in enumerate(draws) for dropped in several]
    unique = {tuple(sorted(dropped)): None for _, _, dropped in named}
    keys = [(), *unique]
    with tqdm(total=len(losses.texts), desc="drop", unit="text", disable=not progress) as bar:
        sums = losses.of([list(key) for key in keys], bar)
    lines = [_line("none", None, [], sums[0], sums[0], losses.counts, seed)]
    for order, draw, dropped in named:
        own = sums[keys.index(tuple(sorted(dropped)))]
        lines.append(_line(order, draw, dropped, own, sums[0], losses.counts, seed))
    table = pd.DataFrame(lines)
    table["draw"] = table["draw"].astype("Int64")
    random = table[table["order"] == "random"].groupby("dropped")["value"]
    table["null_mean"] = table["dropped"].map(random.mean())
    table["null_sd"] = table["dropped"].map(random.std())
    table["baseline"] = table["value"].iloc[0]
    table["n_groups"] = int((losses.counts > 0).sum())
    table["unit"], table["estimator"] = "nats/token", "mean over tokens"
    return table


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    return table[[column for column in COLUMNS if column in table]]


def _line(
    order: str,
    draw: int | None,
    dropped: Sequence[Part],
    own: NDArray[np.float64],
    whole: NDArray[np.float64],
    counts: NDArray[np.float64],
    seed: int,
) -> dict[str, Any]:
    there = counts > 0
    both = np.stack([own, own - whole], 1)[there]
    low, high = mean_intervals(both, counts[there], seed=seed)
    value, added = both.sum(0) / counts.sum()
    return {
        "order": order,
        "draw": draw,
        "dropped": len(dropped),
        "which": _which(dropped),
        "value": value,
        "ci_low": low[0],
        "ci_high": high[0],
        "added": added,
        "added_low": low[1],
        "added_high": high[1],
    }


def _which(dropped: Sequence[Part]) -> str:
    """In the order in which they go: ``blocks 4, 2`` or ``attention 3, MLP 1``."""
    if not dropped:
        return ""
    if len({kind for kind, _ in dropped}) == 1:
        return f"{WORDS[dropped[0][0]]} {', '.join(str(i) for _, i in dropped)}"
    return ", ".join(f"{WORDS[kind]} {i}" for kind, i in dropped)


def _speed(
    model: nn.Module,
    texts: Texts,
    table: pd.DataFrame,
    sets: Sequence[Sequence[Part]],
    notes: list[str],
    progress: bool,
) -> pd.DataFrame:
    from tqdm.auto import tqdm

    clock = Speed(model, texts)
    ratios = {0: (1.0, 1.0, 1.0)}
    try:
        for dropped in tqdm(sets, desc="time", unit="set", disable=not progress):
            ratios[len(dropped)] = clock.ratio(dropped)
    except (LookupError, ValueError) as why:
        notes.append(f"Time was not measured: {why}.")
        return table
    for k, name in enumerate(("time", "time_low", "time_high")):
        table[name] = table["dropped"].map({n: r[k] for n, r in ratios.items()})
    rows, length = clock.ids.shape
    notes.append(
        f"Time: {rows} prompts of {length} tokens, without a cache, against the whole model in turn; "
        "it depends on how many parts are left out, not on which."
    )
    return table
