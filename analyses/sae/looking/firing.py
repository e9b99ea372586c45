"""One pass over a store: how often and how strongly each latent fires, and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.sae.looking.best import Best, chance
from layerscope.analyses.sae.looking.class_counts import ClassCounts
from layerscope.analyses.sae.sae import SAE
from layerscope.probes.scoring.evaluate import check_finite
from layerscope.store import Store

if TYPE_CHECKING:
    import pandas as pd

POOL = 128
"""Firings of each latent that are drawn at random; quarters and commonest tokens come from these."""
BUDGET = 2**26
"""Codes that are made at a time."""


@dataclass
class Firing:
    """What the pass saw of each latent; tensors ``[latents]``."""

    rows: int
    fired: Tensor
    """int64: rows with a code other than zero."""
    total: Tensor
    """float64: sum of the codes."""
    squares: Tensor
    """float64: sum of their squares."""
    top: Best
    """The strongest row of each text."""
    pool: Best
    """`POOL` firings, drawn uniformly."""


def firing(
    sae: SAE,
    store: Store,
    sites: Sequence[str],
    *,
    top: int,
    counts: ClassCounts | None = None,
    seed: int = 0,
    block: int | None = None,
    progress: bool = True,
) -> Firing:
    """Encode every row once.

    Args:
        sites: Whose vectors, side by side, the autoencoder reads.
        top: Texts whose strongest row is kept.
        counts: Told which latents fire where.
        block: Rows at a time; None chooses by `BUDGET`. The result does not depend on it.

    Raises:
        ValueError: activations that are NaN or infinite, with site and row.
    """
    from tqdm.auto import tqdm

    device = sae.W_enc.device
    latents = sae.n_latents
    found = Firing(
        rows=len(store),
        fired=torch.zeros(latents, dtype=torch.int64, device=device),
        total=torch.zeros(latents, dtype=torch.float64, device=device),
        squares=torch.zeros(latents, dtype=torch.float64, device=device),
        top=Best(latents, top, device),
        pool=Best(latents, POOL, device),
    )
    text = torch.tensor(texts_of(store), device=device)
    with tqdm(total=len(store), desc="features", unit="row", disable=not progress) as bar:
        for x, index in blocks(store, sites, block or block_size(latents)):
            local, latent, value = entries(sae, x.to(device))
            row = index.to(device)[local]
            found.fired += latent.bincount(minlength=latents)
            found.total.index_add_(0, latent, value.double())
            found.squares.index_add_(0, latent, value.double().square())
            found.top.add(latent, value, value, row, text[row])
            found.pool.add(latent, chance(row, latent, seed), value, row)
            if counts is not None:
                counts.add(latent, row)
            bar.update(len(x))
    return found


def block_size(latents: int) -> int:
    """Rows that are encoded at a time."""
    return max(64, min(8192, BUDGET // latents))


def blocks(
    store: Store, sites: Sequence[str], size: int, rows: NDArray[np.int64] | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows ``[size, widths of the sites together]`` and their numbers, in order."""
    views = [store[site].batches(size, rows=rows) for site in sites]
    for parts in zip(*views, strict=True):
        index = parts[0][1]
        for site, (x, _) in zip(sites, parts, strict=True):
            check_finite(site, x, index.numpy())
        yield torch.cat([x for x, _ in parts], 1), index


def entries(sae: SAE, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Place in the block, latent and value of each code other than zero, by place and latent."""
    with torch.no_grad():
        codes = sae.encode(x)
    local, latent = codes.nonzero(as_tuple=True)
    return local, latent, codes[local, latent]


def texts_of(store: Store) -> NDArray[np.int64]:
    """``[rows]`` the text that each row is from; rows of no text are each their own."""
    frame: pd.DataFrame = store.rows
    if "text" not in frame or frame["text"].isna().any():
        return np.arange(len(frame))
    return frame["text"].to_numpy(dtype=np.int64)
