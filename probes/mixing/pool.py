"""One vector per text, from the tokens of a store: several ways to pool in one pass over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.reading.texts import Texts
from layerscope.probes.scoring.evaluate import check_finite

if TYPE_CHECKING:
    from layerscope.store import Store

POOLINGS = ("last", "mean", "max", "first", "tail")
TAIL = 4
BATCH = 8192
"""Rows that are read at once."""

Numbers = NDArray[np.int64]


def pooled(
    store: Store,
    site: str,
    texts: Texts,
    chosen: Numbers,
    poolings: Sequence[str] = POOLINGS,
    *,
    tail: int = TAIL,
    batch: int = BATCH,
) -> dict[str, Tensor]:
    """``[texts, width]`` float32 for each pooling: last, mean, max, first, or mean of the last `tail`.

    Rows are read once, in the order of the store's texts, and added to their text as they come.

    Args:
        chosen: Numbers of the texts that are wanted, in the order of the result.

    Raises:
        ValueError: activations that are NaN or infinite.
    """
    order = np.sort(chosen)
    lengths = texts.lengths[order]
    owner = torch.from_numpy(np.repeat(np.arange(len(order)), lengths))
    ends = np.cumsum(lengths)
    # Distance of each row from the end of its text: 1 is the last row.
    left = torch.from_numpy(np.repeat(ends, lengths) - np.arange(len(owner)))
    length = torch.from_numpy(lengths)
    rows = np.concatenate([texts.rows[texts.starts[t] : texts.starts[t + 1]] for t in order])
    width = store.sites[site].width
    found = {name: torch.zeros(len(order), width) for name in poolings}
    if "max" in found:
        found["max"].fill_(-torch.inf)
    done = 0
    for x, index in store[site].batches(batch, rows=rows):
        part = slice(done, done + len(x))
        check_finite(site, x, index.numpy())
        _add(found, x.float(), owner[part], left[part], length, tail)
        done += len(x)
    back = torch.from_numpy(np.searchsorted(order, chosen))
    return {name: vectors[back] for name, vectors in found.items()}


def _add(
    found: dict[str, Tensor], x: Tensor, owner: Tensor, left: Tensor, length: Tensor, tail: int
) -> None:
    """The share of these rows in the vectors of their texts."""
    sizes = length[owner]
    if "last" in found:
        found["last"][owner[left == 1]] = x[left == 1]
    if "first" in found:
        found["first"][owner[left == sizes]] = x[left == sizes]
    if "mean" in found:
        found["mean"].index_add_(0, owner, x / sizes[:, None])
    if "max" in found:
        places = owner[:, None].expand_as(x)
        found["max"].scatter_reduce_(0, places, x, "amax", include_self=True)
    if "tail" in found:
        near = left <= tail
        share = x[near] / sizes[near].clamp_max(tail)[:, None]
        found["tail"].index_add_(0, owner[near], share)
