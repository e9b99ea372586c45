"""The forward passes whose attention is looked at: full windows of text, or samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from layerscope.analyses.activity.head_counts import Ints
from layerscope.analyses.activity.neuron_sources import called, is_tensors
from layerscope.analyses.material.packed import packed
from layerscope.analyses.material.texts import Texts, run
from layerscope.corpus import Samples, read

BATCH = 1024
"""Tokens of one forward pass."""
SAMPLES = 8

Pass = tuple[Callable[[nn.Module], object], Ints, Tensor]
"""Runs a model; group of each row; which positions ``[b, positions or 1]`` are sinks."""


class Passes(Protocol):
    """The same passes for every model."""

    name: str
    groups: int
    count: int
    """Windows or samples."""
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[Pass]:
        """Pass after pass."""


def passes_for(
    model: nn.Module, data: Any, window: int | None, most: int, tokenizer: Any
) -> Passes:
    """Windows of text, or samples where `data` are tensors that are no ids."""
    if isinstance(data, Samples):
        return SamplePasses(data)
    if is_tensors(data):
        return SamplePasses(read(data))
    return WindowPasses(packed(model, data, length=window, most=most, tokenizer=tokenizer))


class WindowPasses:
    """Windows of tokens; sinks are the first position and special tokens."""

    def __init__(self, texts: Texts) -> None:
        self.texts, self.groups, self.count = texts, texts.n_groups, len(texts)
        self.notes = texts.notes
        lengths = sorted({len(ids) for ids in texts.prompts.ids})
        told = str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
        self.name = f"{texts.name}, {len(texts)} windows of {told} tokens"
        known = getattr(texts.prompts.tokenizer, "all_special_ids", None) or []
        self._special = torch.tensor(sorted(known), dtype=torch.long)

    def __iter__(self) -> Iterator[Pass]:
        for index, ids in self.texts.batches(BATCH):
            sinks = torch.isin(ids, self._special)
            sinks[:, 0] = True
            yield partial(run, ids=ids), self.texts.groups[index], sinks


class SamplePasses:
    """Samples such as images; the sink is the first position."""

    def __init__(self, samples: Samples) -> None:
        self.samples, self.groups, self.count = samples, len(samples), len(samples)
        self.notes = tuple(samples.notes)
        self.name = f"{samples.name}, {len(samples):,} samples"

    def __iter__(self) -> Iterator[Pass]:
        for batch in self.samples.batches(SAMPLES):
            group = np.arange(batch.start, batch.stop)
            first = torch.ones(len(group), 1, dtype=torch.bool)
            yield partial(called, batch=batch), group, first
