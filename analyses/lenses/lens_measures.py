"""How far a layer's next-token distribution is from the final one, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BUDGET = 2**27
"""Bytes that one chunk of tokens x vocabulary may take, all copies together."""
COPIES = 8
"""Tensors of tokens x vocabulary that are alive at once while a chunk is measured."""

MEASURES = {
    "kl_final_lens": "nats",
    "kl_lens_final": "nats",
    "agreement": "share of tokens",
    "overlap": "share of the top k",
    "rank": "rank",
    "surprisal": "nats",
}
"""Every measure and its unit. Rank and surprisal are of the token that follows in the text."""


@dataclass(frozen=True)
class Final:
    """The model's own distributions, to which every layer's are compared."""

    logp: Tensor
    """`[n, V]` natural logarithms, float32 or float64."""
    top: Tensor
    """`[n, k]` ids of the likeliest tokens, the likeliest first."""
    next: Tensor
    """`[n]` id of the token that follows in the text; -1 where none does."""

    @classmethod
    def of(cls, logits: Tensor, following: Tensor, k: int) -> Final:
        """From logits `[n, V]` and the ids that follow `[n]`."""
        wide = widened(logits)
        return cls(wide.log_softmax(-1), wide.topk(k, -1).indices, following)

    def compare(self, logits: Tensor) -> dict[str, Tensor]:
        """Each of `MEASURES` for a layer's logits `[n, V]`, as `[n]` in the dtype of `logp`.

        ``kl_final_lens`` is KL(final || lens), which trains a tuned lens; ``kl_lens_final`` is
        KL(lens || final), as in Csordás et al. 2025. ``rank`` counts tokens with a greater logit,
        so 0 is the top and ties do not count. Without a following token, rank and surprisal are
        NaN.
        """
        wide = widened(logits)
        logq = wide.log_softmax(-1)
        top = wide.topk(self.top.shape[-1], -1).indices
        known = self.next >= 0
        at = self.next.clamp_min(0)[:, None]
        shared = (top[:, :, None] == self.top[:, None, :]).any(-1)
        nan = torch.full_like(logq[:, 0], torch.nan)
        return {
            "kl_final_lens": kl(self.logp, logq),
            "kl_lens_final": kl(logq, self.logp),
            "agreement": (top[:, 0] == self.top[:, 0]).to(logq.dtype),
            "overlap": shared.to(logq.dtype).mean(-1),
            "rank": torch.where(known, rank(wide, at[:, 0]).to(logq.dtype), nan),
            "surprisal": torch.where(known, -logq.gather(-1, at)[:, 0], nan),
        }


def kl(logp: Tensor, logq: Tensor) -> Tensor:
    """KL(p || q) in nats over the last axis, from natural logarithms `[..., V]`.

    A token that p excludes (-inf) contributes nothing, also where q excludes it too.
    """
    parts = logp.exp() * (logp - logq)
    return torch.where(logp == -torch.inf, 0.0, parts).sum(-1)


def rank(logits: Tensor, ids: Tensor) -> Tensor:
    """How many tokens have a greater logit than `ids` `[n]` in `[n, V]`; ties do not count."""
    return (logits > logits.gather(-1, ids[:, None])).sum(-1)


def widened(logits: Tensor) -> Tensor:
    """In float32, or float64 where it is that already."""
    return logits if logits.dtype == torch.float64 else logits.float()


def chunked(
    decode: Callable[[Tensor], Tensor], states: Tensor, budget: int = BUDGET
) -> Iterator[tuple[slice, Tensor]]:
    """`(rows, logits [m, V])` for states `[n, d]`, so few rows at once that memory stays in budget.

    The number of rows is taken from the logits of the first row.
    """
    if not len(states):
        return
    width = decode(states[:1]).shape[-1]
    step = max(1, budget // (width * 4 * COPIES))
    for start in range(0, len(states), step):
        rows = slice(start, start + step)
        yield rows, decode(states[rows])
