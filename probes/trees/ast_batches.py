"""Texts of like length side by side, as an AST probe is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from layerscope.probes.trees.parses import Parses
from layerscope.probes.trees.words import Ints

TEXTS = 16
PAIRS = 100_000
"""Pairs of boundaries of one batch: they grow with the square of its longest text."""
_NONE = -100
"""What the cross-entropy passes over."""


@dataclass(frozen=True)
class TextBatch:
    """Some texts, padded to the longest of them."""

    words: Tensor
    """``[s, t]`` numbers of words; 0 beyond the end."""
    heights: Tensor
    """``[s, t - 1]``; -1 beyond the end."""
    labels: Tensor
    """``[s, t - 1]`` label numbers; -100 beyond the end."""
    unary: Tensor
    """``[s, t]``"""


def batches(parses: Parses, chosen: Ints, device: str = "cpu") -> list[TextBatch]:
    """The chosen texts, short ones first."""
    order = chosen[np.argsort(parses.words.lengths[chosen], kind="stable")]
    found: list[TextBatch] = []
    held: list[int] = []
    for text in order.tolist():
        longest = int(parses.words.lengths[text])
        if held and (len(held) == TEXTS or (len(held) + 1) * longest**2 > PAIRS):
            found.append(_batch(parses, held, device))
            held = []
        held.append(text)
    return [*found, _batch(parses, held, device)] if held else found


def _batch(parses: Parses, texts: Sequence[int], device: str) -> TextBatch:
    longest = max(int(parses.words.lengths[text]) for text in texts)
    label = {name: number for number, name in enumerate(parses.labels)}
    unary = {name: number for number, name in enumerate(parses.unary)}
    words = torch.zeros(len(texts), longest, dtype=torch.long)
    heights = torch.full((len(texts), longest - 1), -1.0)
    labels = torch.full((len(texts), longest - 1), _NONE)
    single = torch.full((len(texts), longest), _NONE)
    for row, text in enumerate(texts):
        tree, n = parses.trees[text], len(parses.trees[text])
        words[row, :n] = torch.arange(n) + int(parses.words.starts[text])
        heights[row, : n - 1] = torch.tensor(tree.heights, dtype=torch.float32)
        labels[row, : n - 1] = torch.tensor([label[name] for name in tree.labels])
        single[row, :n] = torch.tensor([unary[name] for name in tree.unary])
    return TextBatch(words.to(device), heights.to(device), labels.to(device), single.to(device))
