"""Sentences of one length side by side: batches without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.trees.dependency import Forest
from layerscope.probes.trees.words import Ints


@dataclass(frozen=True)
class Stack:
    """Sentences of `t` words each, and what is true of them."""

    sentences: Tensor
    """``[s]`` their numbers."""
    words: Tensor
    """``[s, t]`` numbers of their words, over all sentences."""
    truth: Tensor
    """``[s, t, t]`` distances in edges, or ``[s, t]`` depths."""

    @property
    def length(self) -> int:
        return self.words.shape[1]

    def only(self, chosen: Tensor) -> Stack:
        """The sentences of a mask ``[all sentences]``."""
        here = chosen[self.sentences]
        return Stack(self.sentences[here], self.words[here], self.truth[here])

    def split(self, size: int) -> list[Stack]:
        """Parts of at most so many sentences."""
        parts = zip(
            self.sentences.split(size), self.words.split(size), self.truth.split(size), strict=True
        )
        return [Stack(*part) for part in parts]


def distance_stacks(trees: Forest, device: str = "cpu") -> list[Stack]:
    """All sentences with their tree distances, one stack for each length, short ones first."""
    return _stacks(trees.distances, trees.words.starts, device)


def depth_stacks(trees: Forest, device: str = "cpu") -> list[Stack]:
    """All sentences with the depths of their words, one stack for each length."""
    depths = [depth.astype(np.float32) for depth in trees.depths]
    return _stacks(depths, trees.words.starts, device)


def only(stacks: Sequence[Stack], chosen: Tensor) -> list[Stack]:
    """The sentences of a mask ``[all sentences]``; lengths that none of them has are dropped."""
    parts = [stack.only(chosen) for stack in stacks]
    return [part for part in parts if len(part.sentences)]


def _stacks(truths: Sequence[NDArray[np.float32]], starts: Ints, device: str) -> list[Stack]:
    lengths = np.diff(starts)
    found = []
    for length in np.unique(lengths):
        number = np.flatnonzero(lengths == length)
        truth = np.stack([truths[sentence] for sentence in number.tolist()])
        words = starts[number][:, None] + np.arange(length)
        tensors = (torch.from_numpy(part).to(device) for part in (number, words, truth))
        found.append(Stack(*tensors))
    return found
