"""The words of whole texts, in order, whatever rows they were stored as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.reading.rows import codes_of
from layerscope.probes.scoring.evaluate import check_finite

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.store import Store

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class WordRows:
    """Words of texts, one text after the other."""

    index: Ints
    """``[rows]`` where each row is in the store; the pieces of a word are adjacent."""
    word: Ints
    """``[rows]`` number of the word that each row belongs to, from 0, over all texts."""
    starts: Ints
    """``[texts + 1]`` first word of each text, and the end."""
    texts: Ints
    """``[texts]`` number of each text in the store."""
    groups: Ints
    """``[texts]`` what must not straddle a split, from 0."""

    @property
    def lengths(self) -> Ints:
        """``[texts]`` words of each."""
        return np.diff(self.starts)

    @property
    def first(self) -> Ints:
        """``[words]`` row of the store where the labels of each word can be read."""
        return self.index[np.flatnonzero(np.diff(self.word, prepend=-1))]

    def column(self, frame: pd.DataFrame, name: str) -> list[Any]:
        """The label of every word."""
        values: list[Any] = frame[name].iloc[self.first].tolist()
        return values

    def parts(self, values: Sequence[Any]) -> list[Sequence[Any]]:
        """Values of words, ``[words]``, as one run for each text."""
        return [values[a:b] for a, b in pairwise(self.starts.tolist())]

    def only(self, chosen: NDArray[np.bool_]) -> WordRows:
        """The texts of a mask ``[texts]``."""
        words = np.repeat(chosen, self.lengths)
        rows = words[self.word]
        lengths = self.lengths[chosen]
        return WordRows(
            index=self.index[rows],
            word=(np.cumsum(words) - 1)[self.word[rows]],
            starts=np.concatenate([[0], np.cumsum(lengths)]),
            texts=self.texts[chosen],
            groups=np.unique(self.groups[chosen], return_inverse=True)[1].astype(np.int64),
        )

    def read(self, store: Store, site: str, *, device: str = "cpu") -> Tensor:
        """Activations ``[words, width]`` float32; a word in pieces is their mean.

        Raises:
            ValueError: activations that are NaN or infinite, with the site and the first row.
        """
        x = store[site][self.index]
        check_finite(site, x, self.index)
        x = x.float().to(device)
        words = int(self.starts[-1])
        if len(x) == words:
            return x
        number = torch.from_numpy(self.word).to(device)
        pieces = torch.bincount(number, minlength=words)[:, None]
        return x.new_zeros(words, x.shape[1]).index_add_(0, number, x) / pieces


def word_rows(store: Store, label: str, *, what: str) -> WordRows:
    """All words of a store that have this label.

    Args:
        what: The trees, for messages.

    Raises:
        LookupError: there is no such label.
        ValueError: rows are not words, or have no groups.
    """
    frame = store.rows
    if label not in frame:
        raise LookupError(
            f"{what} are in the labels of words, such as {label!r}, which these rows lack; there "
            f"are: {', '.join(map(repr, store.labels)) or 'none'}"
        )
    if "word_index" not in frame:
        raise ValueError(f"{what} need rows of words: extract again with rows='words'")
    if "group" not in frame or frame["group"].isna().any():
        raise ValueError(
            "rows without a group cannot be split safely; give groups when reading the data"
        )
    # A blank or a special token is no part of a word: its number is -1.
    kept = np.flatnonzero(frame["word_index"].fillna(-1).to_numpy() >= 0)
    text, place = (frame[name].to_numpy()[kept].astype(np.int64) for name in ("text", "word_index"))
    order = np.lexsort((np.arange(len(kept)), place, text))
    kept, text, place = kept[order], text[order], place[order]
    new_text = np.diff(text, prepend=text[0] - 1 if len(text) else 0) != 0
    new_word = new_text | (np.diff(place, prepend=-1) != 0)
    word = np.cumsum(new_word) - 1
    begins = np.flatnonzero(new_text)
    return WordRows(
        index=kept,
        word=word.astype(np.int64),
        starts=np.append(word[begins], new_word.sum()).astype(np.int64),
        texts=text[begins],
        groups=codes_of(frame["group"].iloc[kept[begins]]),
    )


def whole(words: WordRows, store: Store) -> NDArray[np.bool_]:
    """``[texts]`` whether no word is missing: none in the middle, none that was cut off at the end."""
    frame = store.rows
    place = frame["word_index"].to_numpy()[words.first].astype(np.int64)
    begins, ends = words.starts[:-1], words.starts[1:] - 1
    full = (place[begins] == 0) & (place[ends] == words.lengths - 1)
    if "char_end" not in frame:
        return np.asarray(full)
    last = frame["char_end"].to_numpy()[words.index[np.searchsorted(words.word, ends, "right") - 1]]
    content = store.texts
    size = np.array([len(str(content[text]).rstrip()) for text in words.texts])
    return np.asarray(full & (last >= size))


def thinned(words: WordRows, most: int, seed: int, notes: list[str]) -> WordRows:
    """Whole texts at random, of at most `most` words together.

    Raises:
        ValueError: the first one that is drawn has more words.
    """
    if int(words.starts[-1]) <= most:
        return words
    order = np.random.default_rng(seed).permutation(len(words.texts))
    within = order[np.cumsum(words.lengths[order]) <= most]
    if not len(within):
        raise ValueError(
            f"max_rows={most:,} words are fewer than the {words.lengths[order[0]]:,} of the first text "
            "that was drawn, and texts stay whole; raise max_rows"
        )
    chosen = np.zeros(len(words.texts), dtype=bool)
    chosen[within] = True
    notes.append(
        f"{len(within):,} of {len(words.texts):,} texts, drawn at random; raise max_rows (words) "
        "to use more"
    )
    return words.only(chosen)
