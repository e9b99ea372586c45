"""How much of a layer's activity can be zeroed, smallest first, before the loss notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from layerscope.analyses.material.resampling import Floats
from layerscope.analyses.material.texts import Texts, run
from layerscope.hooks import edits
from layerscope.hooks.edits import edit
from layerscope.hooks.quiet import undisturbed

HALVINGS = 8
"""Of the interval of fractions: found to 1 / 256."""
BATCH = 1024


@dataclass(frozen=True)
class Tolerated:
    """The largest fraction of a row that can be zeroed."""

    fraction: float
    loss: float
    """Of the whole model, nats per token."""
    added: Floats
    """``[groups]`` summed loss added at that fraction."""
    control: float
    """Loss added, nats per token, with as many random units zeroed instead."""
    tokens: Floats
    """``[groups]`` predicted tokens."""


def tolerated(
    model: nn.Module,
    texts: Texts,
    sites: Sequence[str],
    *,
    allowed: float,
    seed: int,
    seen: Callable[[], object],
) -> Tolerated:
    """Bisect the fraction of the smallest entries of each row that can be zeroed.

    Args:
        model: A model with logits that predict the next token.
        texts: Measured on.
        sites: Zeroed together.
        allowed: Relative increase of the loss that is still tolerated, such as 0.01.
        seed: Of the random units of the control.
        seen: Called after each measurement.

    Raises:
        ValueError: no text has two tokens, or the model gives no logits over next tokens.
    """
    whole, tokens = losses(model, texts)
    if not tokens.sum():
        raise ValueError("functional=True needs texts of two tokens or more")
    most = (1 + allowed) * whole.sum()
    low, high, added = 0.0, 1.0, np.zeros_like(whole)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        with zeroing(model, sites, partial(without_smallest, fraction=middle)):
            now = losses(model, texts)[0]
        seen()
        if now.sum() <= most:
            low, added = middle, now - whole
        else:
            high = middle
    generator = torch.Generator().manual_seed(seed)
    with zeroing(model, sites, partial(without_random, fraction=low, generator=generator)):
        control = losses(model, texts)[0]
    seen()
    count = tokens.sum()
    extra = float((control - whole).sum() / count)
    return Tolerated(low, float(whole.sum() / count), added, extra, tokens)


def without_smallest(a: Tensor, fraction: float) -> Tensor:
    """Rows ``[..., width]`` with the smallest ``round(fraction * width)`` entries at zero."""
    number = round(fraction * a.shape[-1])
    if not number:
        return a
    smallest = a.abs().topk(number, dim=-1, largest=False).indices
    return a.scatter(-1, smallest, 0)


def without_random(a: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """Rows with as many random entries at zero."""
    number = round(fraction * a.shape[-1])
    if not number:
        return a
    order = torch.rand(a.shape, generator=generator).topk(number, dim=-1).indices
    return a.scatter(-1, order.to(a.device), 0)


def losses(model: nn.Module, texts: Texts) -> tuple[Floats, Floats]:
    """Loss on next tokens, summed over each group, and how many were predicted: ``[groups]``."""
    sums, counts = np.zeros(texts.n_groups), np.zeros(texts.n_groups)
    with undisturbed(model):
        for index, ids in texts.batches(BATCH):
            logits = getattr(run(model, ids), "logits", None)
            if logits is None or logits.ndim != 3:
                raise ValueError(
                    f"functional=True needs the loss of a language model; {type(model).__name__} "
                    "gives no logits over next tokens"
                )
            following = ids[:, 1:].to(logits.device)
            loss = nn.functional.cross_entropy(
                logits[:, :-1].float().mT, following, reduction="none"
            )
            np.add.at(sums, texts.groups[index], loss.double().sum(-1).cpu().numpy())
            np.add.at(counts, texts.groups[index], following.shape[1])
    return sums, counts


@contextmanager
def zeroing(
    model: nn.Module, sites: Sequence[str], function: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    with edit(model, {site: edits.change(function) for site in sites}):
        yield
