"""A lens over many tokens: sums of every measure by layer and text, and what guessing would get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.lenses.lens_measures import BUDGET, COPIES, MEASURES, Final
from layerscope.analyses.lenses.translators import Translator
from layerscope.analyses.material.texts import Texts, residuals
from layerscope.hooks.unembed import Unembed

Floats = NDArray[np.float64]
ROWS = 2048
"""Tokens that wait for the head together."""


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
        self._waiting: list[_Rows] = []

    def update(self, index: Sequence[int], ids: Tensor, states: Tensor) -> None:
        """Add texts `index` with ids `[b, p]` and residuals `[L + 1, b, p, d]`."""
        following = torch.full_like(ids, -1)
        following[:, :-1] = ids[:, 1:] if self.next_token else -1
        width = ids.shape[1]
        rows = _Rows(
            states.flatten(1, 2),
            following.flatten().to(states.device),
            np.repeat(index, width),
            np.tile(np.arange(width) == 0, len(index)).astype(int),
        )
        self._waiting.append(rows)
        # Texts of one length are few; the head is asked about many rows at once.
        if sum(len(part) for part in self._waiting) >= ROWS:
            self._flush()

    def result(self) -> Profile:
        """The sums so far."""
        self._flush()
        total = self._total
        return Profile(total.sums, total.counts, self._guess.result(), total.texts)

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = _Rows.joined(self._waiting)
        self._waiting = []
        layers = len(rows.states)
        vocabulary = self.decode(rows.states[-1, :1]).shape[-1]
        # All layers' logits are there at once, and of one of them all that is computed from it.
        step = max(1, self.budget // (vocabulary * 4 * (COPIES + 2 * layers)))
        for start in range(0, len(rows), step):
            self._measure(rows[start : start + step])

    def _measure(self, rows: _Rows) -> None:
        final: Final | None = None
        for number, lens in enumerate(self.lenses):
            moved = [lens(part, layer) for layer, part in enumerate(rows.states)]
            logits = self.decode(torch.stack(moved))
            if final is None:
                final = Final.of(logits[-1], rows.following, self.k)
                self._guess.update(final)
            size = len(self.lenses), len(moved)
            for layer, own in enumerate(logits):
                place = rows.text, rows.first
                self._total.update((number, layer), place, final.compare(own), size)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Tokens, one after the other."""

    states: Tensor
    """`[L + 1, n, d]`"""
    following: Tensor
    """`[n]` the token that follows in the text; -1 where none does."""
    text: NDArray[np.int64]
    """`[n]`"""
    first: NDArray[np.int64]
    """`[n]` 1 at first tokens of texts."""

    @classmethod
    def joined(cls, parts: Sequence[_Rows]) -> _Rows:
        return cls(
            torch.cat([part.states for part in parts], 1),
            torch.cat([part.following for part in parts]),
            np.concatenate([part.text for part in parts]),
            np.concatenate([part.first for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.following)

    def __getitem__(self, rows: slice) -> _Rows:
        return _Rows(self.states[:, rows], self.following[rows], self.text[rows], self.first[rows])


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
