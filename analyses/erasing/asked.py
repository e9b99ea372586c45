"""What a model is asked while something is erased: the tokens it should predict, and which count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.material.texts import Texts

MASKED_SHARE = 0.15
"""Of the tokens of a text, in models that fill gaps."""


@dataclass(frozen=True, eq=False)
class Question:
    """One batch of texts of equal length."""

    groups: NDArray[np.int64]
    """``[b]``"""
    ids: Tensor
    """``[b, p]`` what the model reads."""
    wanted: Tensor
    """``[b, p]`` the token it should say at each position."""
    scopes: Mapping[str, Tensor]
    """Name -> ``[b, p]`` which predictions are counted."""
    erased: slice
    """Positions that are erased: all but special tokens at both ends."""


@dataclass(frozen=True, eq=False)
class Questions:
    """Held-out texts, and which of their tokens are marked.

    Args:
        texts: What the model reads.
        marks: Name -> one boolean tensor ``[p]`` a text.
        fills: Whether the model fills gaps (masked language model) rather than predicts the next token.
        seed: Of the gaps.
    """

    texts: Texts
    marks: Mapping[str, list[Tensor]]
    fills: bool
    seed: int = 0

    @property
    def scopes(self) -> tuple[str, ...]:
        """``all``; ``next``: predictions made at a labelled token; ``itself``: predictions of one;
        and predictions of tokens under any further mark.
        """
        more = [name for name in self.marks if name != "labelled"]
        return ("all", *(() if self.fills else ("next",)), "itself", *more)

    def batches(self, tokens: int) -> Iterator[Question]:
        """Batches of at most about `tokens` tokens."""
        for index, ids in self.texts.batches(tokens):
            if ids.shape[1] > 1:
                marks = {k: torch.stack([v[i] for i in index]) for k, v in self.marks.items()}
                groups = self.texts.groups[index]
                make = self._gaps if self.fills else self._following
                yield make(groups, ids, marks, self.inner(ids[0]), index)

    def _following(
        self,
        groups: NDArray[np.int64],
        ids: Tensor,
        marks: Mapping[str, Tensor],
        inner: slice,
        index: list[int],
    ) -> Question:
        here = torch.zeros_like(ids, dtype=torch.bool)
        here[:, inner] = True
        here[:, -1] = False
        ahead = {name: mark.roll(-1, 1) & here for name, mark in marks.items()}
        scopes = {"all": here, "next": marks["labelled"] & here, "itself": ahead.pop("labelled")}
        return Question(groups, ids, ids.roll(-1, 1), scopes | ahead, inner)

    def _gaps(
        self,
        groups: NDArray[np.int64],
        ids: Tensor,
        marks: Mapping[str, Tensor],
        inner: slice,
        index: list[int],
    ) -> Question:
        gaps = torch.zeros_like(ids, dtype=torch.bool)
        span = range(ids.shape[1])[inner]
        for row, text in enumerate(index):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + text)
            count = max(1, round(MASKED_SHARE * len(span)))
            gaps[row, span.start + torch.randperm(len(span), generator=generator)[:count]] = True
        mask = int(self.texts.prompts.tokenizer.mask_token_id)
        scopes = {"all": gaps} | {
            "itself" if name == "labelled" else name: mark & gaps for name, mark in marks.items()
        }
        return Question(groups, ids.masked_fill(gaps, mask), ids, scopes, inner)

    def inner(self, ids: Tensor) -> slice:
        """Positions of a text ``[p]`` without the special tokens at both ends."""
        special = set(getattr(self.texts.prompts.tokenizer, "all_special_ids", ()))
        listed = ids.tolist()
        first, last = 0, len(listed)
        while first < last - 1 and listed[first] in special:
            first += 1
        while last > first + 1 and listed[last - 1] in special:
            last -= 1
        return slice(first, last)


def questions(
    texts: Texts,
    frame: Any,
    chosen: NDArray[np.int64],
    label: str,
    where: str | None,
    *,
    fills: bool,
    seed: int,
) -> Questions:
    """Questions about some texts of a corpus, marked by the rows of its store.

    Args:
        texts: All texts, in the order of the corpus.
        frame: The store's rows: ``text``, ``position``, ``token_id`` and the labels.
        chosen: Which texts.
        where: A pandas query on the rows that marks tokens of special interest.

    Raises:
        ValueError: the store's tokens are not those of the texts, or a query that cannot be read.
    """
    rows = frame[np.isin(frame["text"].to_numpy(), chosen)]
    marked = {"labelled": rows[label].notna().to_numpy(dtype=bool)}
    if where is not None:
        try:
            marked[where] = np.isin(np.arange(len(rows)), _matching(rows, where))
        except Exception as error:
            raise ValueError(
                f"where={where!r} is no query on the rows ({error}); it is written as for "
                "DataFrame.query, such as \"upos == 'AUX'\""
            ) from error
    number = {int(text): i for i, text in enumerate(chosen)}
    ids = [texts.prompts.ids[i] for i in chosen]
    marks = {name: [torch.zeros(len(x), dtype=torch.bool) for x in ids] for name in marked}
    for name, flags in marked.items():
        part = rows[flags]
        for text, position in zip(part["text"], part["position"], strict=True):
            marks[name][number[int(text)]][int(position)] = True
    _check_same(rows, ids, number)
    return Questions(texts.chosen(chosen.tolist()), marks, fills, seed)


def _matching(rows: Any, where: str) -> NDArray[np.int64]:
    found: NDArray[np.int64] = rows.reset_index(drop=True).query(where).index.to_numpy()
    return found


def _check_same(rows: Any, ids: list[Tensor], number: Mapping[int, int]) -> None:
    for text, part in rows.groupby("text"):
        own = ids[number[int(text)]][torch.tensor(part["position"].to_list())]
        if own.tolist() != part["token_id"].tolist():
            raise ValueError(
                f"the stored tokens of text {text} are not those that the model reads now; give "
                "the same data and tokenizer"
            )
