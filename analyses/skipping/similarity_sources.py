"""Where states of the residual stream come from: a store, or a model that runs as they are read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.skipping.cosines import Pair, State

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.analyses.material.texts import Texts
    from layerscope.store import Store

Piece = tuple[Mapping[str, Tensor], NDArray[Any], NDArray[np.int64]]
"""Rows of every wanted site, the group of each row, and its position in the text."""
SHARD_CHARACTERS = 100_000
SHARD_SAMPLES = 512
STORE_BYTES = 64 << 20
_BLOCK = re.compile(r"(encoder\.)?blocks\.(\d+)\.(\w+)")
EXTRACT = 'extract(model, corpus, ["embed", "all", "blocks.*.resid_mid"])'


@dataclass(frozen=True)
class Plan:
    """What is compared."""

    pairs: tuple[Pair, ...]
    stream: tuple[State, ...]
    """States before block 0 and after each block; empty where one of them is missing."""
    notes: tuple[str, ...]


def plan(sites: Sequence[str]) -> Plan:
    """What can be compared where these sites can be read.

    Raises:
        LookupError: not one block has both its input and its output among them.
    """
    there = set(sites)
    named = [found for site in sites if (found := _BLOCK.fullmatch(site))]
    prefix = named[0][1] or "" if named else ""
    count = 1 + max((int(found[2]) for found in named), default=-1)
    stream = [_stream(prefix, i, there) for i in range(count + 1)]
    pairs = [
        Pair("block", i, before, after)
        for i, (before, after) in enumerate(pairwise(stream))
        if before and after
    ]
    if not pairs:
        raise LookupError(
            f"no block has both its input and its output among {', '.join(sites) or 'no sites'}; "
            f"make the store by {EXTRACT}"
        )
    halves, notes = _sublayers(prefix, stream, there)
    lost = [_name(prefix, i) for i, state in enumerate(stream) if not state]
    if lost:
        notes.append(f"missing: {', '.join(lost)}; windows of blocks need them all: {EXTRACT}")
    return Plan(tuple(pairs + halves), () if lost else tuple(stream), tuple(notes))


def _name(prefix: str, i: int) -> str:
    return f"{prefix}blocks.{i - 1}.resid_post" if i else f"{prefix}embed"


def _stream(prefix: str, i: int, there: set[str]) -> State:
    """The state between block i - 1 and block i; () where no site holds it."""
    for site in (_name(prefix, i), f"{prefix}blocks.{i}.resid_pre"):
        if site in there:
            return (site,)
    return ()


def _sublayers(
    prefix: str, stream: Sequence[State], there: set[str]
) -> tuple[list[Pair], list[str]]:
    """Attention and MLP of each block, the residual on both sides."""
    pairs: list[Pair] = []
    ways: dict[str, list[int]] = {}
    for i, (before, after) in enumerate(pairwise(stream)):
        middle, way = _middle(f"{prefix}blocks.{i}.", before, after, there)
        ways.setdefault(way, []).append(i)
        pairs += [Pair("attention", i, before, middle)] if before and middle else []
        pairs += [Pair("mlp", i, middle, after)] if middle and after else []
    return pairs, [f"{way} (blocks {_listed(which)})" for way, which in ways.items() if way]


def _middle(block: str, before: State, after: State, there: set[str]) -> tuple[State, str]:
    """The state between attention and MLP, and what to say about it."""
    if f"{block}resid_mid" in there:
        return (f"{block}resid_mid",), ""
    if f"{block}attn_out" in there and before:
        return (*before, f"{block}attn_out"), (
            "between attention and MLP: input + attn_out, since no resid_mid is there; where both "
            "run in parallel this sum is not what the MLP reads"
        )
    if f"{block}mlp_out" in there and after:
        return (*after, f"-{block}mlp_out"), (
            "between attention and MLP: output - mlp_out, since no resid_mid is there"
        )
    return (), f"attention and MLP were not compared: neither resid_mid nor attn_out; {EXTRACT}"


def _listed(numbers: Sequence[int]) -> str:
    whole = list(range(numbers[0], numbers[-1] + 1)) == list(numbers)
    if whole and len(numbers) > 2:
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def model_sites(model: nn.Module) -> tuple[str, ...]:
    """The sites of a model that are states of its stream, or make one.

    Raises:
        LookupError: the model has no stack of blocks.
    """
    from layerscope.hooks.anatomy import anatomy
    from layerscope.hooks.sites import resolve

    found = anatomy(model)
    both = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    prefix = "encoder." if both else ""
    if not both:
        resolve(model, "all")  # says what to do where there are no blocks
    wanted = []
    for block in found.encoder if both else found.blocks:
        at = f"{prefix}blocks.{block.index}."
        middle = ["resid_mid"] if f"{at}resid_mid" in found.sites else ["attn_out"]
        wanted += [f"{at}{part}" for part in ("resid_pre", *middle, "resid_post")]
    first = f"{prefix}embed" if f"{prefix}embed" in found.sites else f"{prefix}blocks.0.resid_pre"
    return tuple(s for s in (first, *wanted) if s in found.sites and (not _is_pre(s) or s == first))


def _is_pre(site: str) -> bool:
    return site.endswith(".resid_pre")  # the output of the block before


def from_store(store: Store, sites: Sequence[str], progress: bool) -> Iterator[Piece]:
    """Rows of a store, as many at once as fit a fixed number of bytes."""
    from tqdm.auto import tqdm

    rows = store.rows
    groups, positions = _who(rows)
    width = sum(store[site].shape[1] for site in sites)
    step = max(1, STORE_BYTES // (8 * width))
    for start in tqdm(range(0, len(store), step), "compare", unit="part", disable=not progress):
        part = slice(start, start + step)
        yield {site: store[site][part] for site in sites}, groups[part], positions[part]


def from_model(
    model: nn.Module, corpus: Any, sites: Sequence[str], tokenizer: Any, progress: bool
) -> Iterator[Piece]:
    """Rows of a model's forward passes; at most one batch is in memory."""
    from tqdm.auto import tqdm

    from layerscope.corpus import Samples
    from layerscope.hooks.extracting.feeds import BATCH, feed_of
    from layerscope.hooks.extracting.filling import running
    from layerscope.hooks.load import device_of
    from layerscope.hooks.quiet import evaluating

    samples = isinstance(corpus, Samples)
    options = {"special_tokens": True, "too_long": "truncate", "tokenizer": tokenizer}
    feed = feed_of(model, corpus, sites, rows="positions" if samples else "tokens", **options)
    batch = 64 if samples else BATCH.get(device_of(model).type, 4096)
    shape = {"shard": SHARD_SAMPLES if samples else SHARD_CHARACTERS, "batch": batch}
    with (
        evaluating(model),
        torch.inference_mode(),
        running(model, sites) as run,
        tqdm(total=len(feed), desc="compare", unit=feed.unit, disable=not progress) as bar,
    ):
        if samples:
            first: list[int] = []
            run(feed.first(), lambda site, x: first.append(len(x)))
            shape["positions"] = max(first)
        for size, prepare in feed.shards(shape):
            shard = prepare()
            groups, positions = _who(shard.table())
            for step in shard.steps(batch):
                states: dict[str, Tensor] = {}
                run(step, states.__setitem__)
                place = step.place.numpy()
                yield states, groups[place], positions[place]
            bar.update(size)


def from_texts(
    model: nn.Module, texts: Texts, sites: Sequence[str], tokens: int
) -> Iterator[Piece]:
    """Rows of tokenised texts, in batches of equal length; no special token is left out."""
    from layerscope.hooks.listening.watch import StopForward, watch
    from layerscope.hooks.load import device_of
    from layerscope.hooks.quiet import undisturbed

    for index, ids in texts.batches(tokens):
        states: dict[str, Tensor] = {}

        def see(site: str, x: Tensor, states: dict[str, Tensor] = states) -> None:
            states[site] = x.detach().clone().flatten(0, -2)

        with undisturbed(model), suppress(StopForward), watch(model, sites, see, stop=True):
            model(input_ids=ids.to(device_of(model)))
        groups = texts.groups[index].repeat(ids.shape[1])
        yield states, groups, np.tile(np.arange(ids.shape[1]), len(ids))


def _who(rows: pd.DataFrame) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Group and position of each row."""
    return rows["group"].to_numpy(dtype=object), rows["position"].to_numpy(dtype=np.int64)
