"""A lens over many tokens: sums of every measure by layer and text, and what guessing would get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.lens_measures import BUDGET, MEASURES, Final, chunked
from layerscope.analyses.texts import Texts, residuals
from layerscope.analyses.translators import Translator
from layerscope.hooks.unembed import Unembed

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """Sums over the tokens of each text, apart for first tokens and all others."""

    sums: dict[str, Floats]
    """For each measure `[lenses, L + 1, texts, 2]`; the last axis is (later tokens, first token).

    Of rank it is the sum of log(1 + rank): a few tokens of rank 40,000 would drown all others.
    """
    counts: dict[str, Floats]
    """For each measure `[texts, 2]`: how many tokens were summed."""
    guess: dict[str, float]
    """Each measure for one distribution that is the same everywhere: the mean of the final ones."""
    texts: int


def profile(
    model: nn.Module,
    texts: Texts,
    lenses: Sequence[Translator],
    *,
    k: int,
    next_token: bool = True,
    tokens: int = 2048,
    budget: int = BUDGET,
    seen: Callable[[int], object] = lambda count: None,
) -> Profile:
    """Measure every lens at every residual on every token.

    Args:
        k: Length of the lists whose overlap is measured.
        next_token: Whether the text's next token is what the model predicts.
        tokens: About how many tokens one forward pass takes.
        budget: Bytes for one chunk of tokens x vocabulary.
        seen: Called with the number of texts that are done.
    """
    found = Profiling(model, texts, lenses, k=k, next_token=next_token, budget=budget)
    for index, ids in texts.batches(tokens):
        found.update(index, ids, residuals(model, ids))
        seen(len(index))
    return found.result()


class Profiling:
    """A profile that grows batch by batch, from states that are there already."""

    def __init__(
        self,
        model: nn.Module,
        texts: Texts,
        lenses: Sequence[Translator],
        *,
        k: int,
        next_token: bool = True,
        budget: int = BUDGET,
    ) -> None:
        self.decode = torch.no_grad()(Unembed(model))
        self.lenses, self.k, self.next_token, self.budget = lenses, k, next_token, budget
        self._total = _Total(len(texts))
        self._guess = _Guess(k)

    def update(self, index: Sequence[int], ids: Tensor, states: Tensor) -> None:
        """Add texts `index` with ids `[b, p]` and residuals `[L + 1, b, p, d]`."""
        following = torch.full_like(ids, -1)
        following[:, :-1] = ids[:, 1:] if self.next_token else -1
        flat = states.flatten(1, 2)
        following = following.flatten().to(flat.device)
        width = ids.shape[1]
        texts, first = np.repeat(index, width), np.tile(np.arange(width) == 0, len(index))
        for rows, logits in chunked(self.decode, flat[-1], self.budget):
            final = Final.of(logits, following[rows], self.k)
            self._guess.update(final)
            where = texts[rows], first[rows].astype(int)
            for number, lens in enumerate(self.lenses):
                for layer, part in enumerate(flat[:, rows]):
                    values = final.compare(self.decode(lens(part, layer)))
                    size = len(self.lenses), len(flat)
                    self._total.update((number, layer), where, values, size)

    def result(self) -> Profile:
        """The sums so far."""
        total = self._total
        return Profile(total.sums, total.counts, self._guess.result(), total.texts)


class _Total:
    """Running sums by text."""

    def __init__(self, texts: int) -> None:
        self.texts = texts
        self.sums: dict[str, Floats] = {}
        self.counts = {name: np.zeros((texts, 2)) for name in MEASURES}

    def update(
        self,
        at: tuple[int, int],
        where: tuple[NDArray[np.int64], NDArray[np.int64]],
        values: dict[str, Tensor],
        size: tuple[int, int],
    ) -> None:
        for name, tensor in values.items():
            x = tensor.double().cpu().numpy()
            known = ~np.isnan(x)
            x = np.log1p(x[known]) if name == "rank" else x[known]
            sums = self.sums.setdefault(name, np.zeros((*size, self.texts, 2)))
            np.add.at(sums[at], (where[0][known], where[1][known]), x)
            if at == (0, 0):
                np.add.at(self.counts[name], (where[0][known], where[1][known]), 1.0)


class _Guess:
    """What the best distribution that looks at no token would score, from running sums over V."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.n = 0
        self._sums: dict[str, Tensor] = {}

    def update(self, final: Final) -> None:
        p = final.logp.exp()
        size = p.shape[-1]
        following = final.next[final.next >= 0]
        parts = {
            "p": p.sum(0),
            # A token that was excluded somewhere would make the mean logarithm infinite.
            "logp": final.logp.clamp_min(-100).sum(0),
            "entropy": -torch.where(p > 0, p * final.logp, 0.0).sum(),
            "first": torch.bincount(final.top[:, 0], minlength=size),
            "top": torch.bincount(final.top.flatten(), minlength=size),
            "next": torch.bincount(following, minlength=size),
        }
        self.n += len(p)
        for name, x in parts.items():
            self._sums[name] = self._sums.get(name, 0) + x.double().cpu()

    def result(self) -> dict[str, float]:
        s, n = self._sums, self.n
        mean, following = s["p"] / n, s["next"]
        log = mean.clamp_min(1e-300).log()
        entropy = -(mean * log).sum()
        order = mean.argsort(descending=True)
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(len(order))
        many = following.sum().clamp_min(1)
        found = {
            "kl_final_lens": entropy - s["entropy"] / n,
            "kl_lens_final": -entropy - (mean * s["logp"] / n).sum(),
            "agreement": s["first"].max() / n,
            "overlap": s["top"].topk(self.k).values.sum() / (n * self.k),
            "rank": torch.expm1((following * torch.log1p(ranks.double())).sum() / many),
            "surprisal": -(following * log).sum() / many,
        }
        return {name: float(x) for name, x in found.items()}
