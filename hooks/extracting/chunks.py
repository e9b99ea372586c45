"""Texts to chunks: which texts make which shard, which tokens make which row.

A chunk is a run of consecutive texts that becomes one shard. The cut depends on the corpus and one
number alone, never on the model's speed or on what has been done before, so that interrupted work
finds the same shards again. Inside a chunk, texts of like length share a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from layerscope.corpus.alignment import token_word, word_tokens
from layerscope.hooks.extracting.gather import Gather

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.corpus import Text

ROW_RULES: tuple[str, ...] = ("tokens", "words", "texts:mean", "texts:last", "texts:first")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How texts become tokens and rows; the same for a whole store."""

    tokenizer: Any
    rows: str
    context: int | None
    """Longest text in tokens; longer ones are cut, and counted."""
    special_tokens: bool
    """Whether BOS, SEP and the like make rows of their own."""


@dataclass(frozen=True)
class Tokens:
    """One text as the model reads it."""

    ids: list[int]
    position: np.ndarray
    """`[m]` token positions that make rows, with `row` beside."""
    row: np.ndarray
    """`[m]` row of this text that each position belongs to, ascending."""
    rows: int
    columns: dict[str, list[Any]]
    """The row table of this text, column by column."""
    cut: bool


@dataclass(frozen=True)
class Batch:
    """Texts of like length, padded on the right."""

    input_ids: Tensor
    attention_mask: Tensor
    gather: Gather
    place: Tensor
    """`[rows]` where the rows of this batch stand in the shard."""
    members: tuple[int, ...]
    """Which texts of the chunk these are."""


@dataclass(frozen=True)
class Chunk:
    """The texts of one shard, tokenised."""

    texts: tuple[Tokens, ...]
    first_row: np.ndarray
    """`[texts]` row at which each text begins."""
    rows: int

    def batches(self, budget: int, pad: int) -> Iterator[Batch]:
        """Batches of at most `budget` padded tokens, the longest texts first."""
        order = sorted(range(len(self.texts)), key=lambda i: -len(self.texts[i].ids))
        for members in _bucket(order, [len(text.ids) for text in self.texts], budget):
            yield self.batch(members, pad)

    def batch(self, members: Sequence[int], pad: int) -> Batch:
        texts = [self.texts[i] for i in members]
        width = max(len(text.ids) for text in texts)
        ids = np.full((len(texts), width), pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for line, text in enumerate(texts):
            ids[line, : len(text.ids)] = text.ids
            mask[line, : len(text.ids)] = 1
        counts = np.array([text.rows for text in texts])
        begins = np.cumsum(counts) - counts
        take = np.concatenate([line * width + text.position for line, text in enumerate(texts)])
        row = np.concatenate([b + text.row for b, text in zip(begins, texts, strict=True)])
        place = np.concatenate([self.first_row[i] + np.arange(self.texts[i].rows) for i in members])
        return Batch(
            torch.from_numpy(ids),
            torch.from_numpy(mask),
            _gather(take, row, int(counts.sum())),
            torch.from_numpy(place.astype(np.int64)),
            tuple(members),
        )

    def table(self) -> pd.DataFrame:
        """The rows of the shard, in the order of the corpus."""
        import pandas as pd

        names = list(dict.fromkeys(name for text in self.texts for name in text.columns))
        table = {name: self._column(name) for name in names}
        # One copy of each text, not one for each of its tokens.
        table["content"] = pd.Categorical(table["content"])
        return pd.DataFrame(table)

    def _column(self, name: str) -> Any:
        none = [None]
        return [value for text in self.texts for value in text.columns.get(name, none * text.rows)]


def split_texts(corpus: Iterable[Text], characters: int) -> Iterator[list[Text]]:
    """Runs of consecutive texts of about `characters` characters; a text is never divided."""
    run: list[Text] = []
    size = 0
    for text in corpus:
        run.append(text)
        size += len(text.content)
        if size >= characters:
            yield run
            run, size = [], 0
    if run:
        yield run


def tokenise(texts: Sequence[Text], first: int, reading: Reading) -> Chunk:
    """Tokenise a run of texts; `first` is the index of its first text in the corpus."""
    encoded = reading.tokenizer(
        [text.content for text in texts],
        truncation=reading.context is not None,
        max_length=reading.context,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    tokens = tuple(
        _read(text, index, encoding, reading)
        for index, (text, encoding) in enumerate(zip(texts, encoded.encodings, strict=True), first)
    )
    counts = np.array([text.rows for text in tokens])
    return Chunk(tokens, np.cumsum(counts) - counts, int(counts.sum()))


def _read(text: Text, index: int, encoding: Any, reading: Reading) -> Tokens:
    offsets = np.asarray(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    special = np.asarray(encoding.special_tokens_mask, dtype=bool)
    kept = np.flatnonzero(~special | reading.special_tokens)
    if reading.rows == "words":
        position, row, rows, columns = _word_rows(text, offsets, kept, encoding)
    elif reading.rows == "tokens":
        position, row, rows = kept, np.arange(len(kept)), len(kept)
        columns = _token_columns(text, offsets, kept, encoding)
    else:
        position, row, rows, columns = _text_rows(kept, encoding, reading.rows)
    shared: dict[str, Any] = {"text": index, "group": text.group, "content": text.content}
    labels = {name: [value] * rows for name, value in text.labels.items()}
    every = {name: [value] * rows for name, value in shared.items()} | labels | columns
    return Tokens(encoding.ids, position, row, rows, every, bool(encoding.overflowing))


def _token_columns(
    text: Text, offsets: np.ndarray, kept: np.ndarray, encoding: Any
) -> dict[str, list[Any]]:
    pieces, ids = encoding.tokens, encoding.ids
    spans = offsets[kept].tolist()
    columns: dict[str, list[Any]] = {
        "position": kept.tolist(),
        "token_id": [ids[i] for i in kept],
        "token": [text.content[a:b] or pieces[i] for i, (a, b) in zip(kept, spans, strict=True)],
        "char_start": [a for a, _ in spans],
        "char_end": [b for _, b in spans],
    }
    if text.words is not None:
        word = token_word(offsets[kept], text.words)
        columns["word_index"] = word.tolist()
        for name, values in text.words.labels.items():
            columns[name] = [values[w] if w >= 0 else None for w in word]
    return columns


def _word_rows(
    text: Text, offsets: np.ndarray, kept: np.ndarray, encoding: Any
) -> tuple[np.ndarray, np.ndarray, int, dict[str, list[Any]]]:
    words = text.words
    if words is None:
        raise ValueError(
            f"text {text.id!r} has no labelled words, so rows='words' has no rows for it; use "
            "rows='tokens', or a corpus with word spans (.conllu, or a `words` field in .jsonl)"
        )
    word, token = word_tokens(offsets[kept], words)
    present, first, row = np.unique(word, return_index=True, return_inverse=True)
    position = kept[token]
    lead = position[first]
    columns: dict[str, list[Any]] = {
        "position": lead.tolist(),
        "token_id": [encoding.ids[i] for i in lead],
        "token": [text.content[words.start[w] : words.end[w]] for w in present],
        "char_start": [words.start[w] for w in present],
        "char_end": [words.end[w] for w in present],
        "word_index": present.tolist(),
    }
    for name, values in words.labels.items():
        columns[name] = [values[w] for w in present]
    return position, row, len(present), columns


def _text_rows(
    kept: np.ndarray, encoding: Any, rule: str
) -> tuple[np.ndarray, np.ndarray, int, dict[str, list[Any]]]:
    if rule == "texts:last":
        kept = kept[-1:]
    elif rule == "texts:first":
        kept = kept[:1]
    rows = min(len(kept), 1)
    spans = [encoding.offsets[i] for i in kept]
    columns: dict[str, list[Any]] = {
        "position": [int(kept[-1])][:rows] if rows else [],
        "token_id": [encoding.ids[kept[-1]]] if rows else [],
        "token": [encoding.tokens[kept[-1]]] if rows else [],
        "char_start": [min(a for a, _ in spans)] if rows else [],
        "char_end": [max(b for _, b in spans)] if rows else [],
    }
    return kept, np.zeros(len(kept), dtype=np.int64), rows, columns


def _bucket(order: Sequence[int], lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Runs of `order` (longest first) whose padded size stays within `budget` tokens."""
    members: list[int] = []
    for index in order:
        if members and lengths[members[0]] * (len(members) + 1) > budget:
            yield members
            members = []
        if lengths[index]:
            members.append(index)
    if members:
        yield members


def _gather(take: np.ndarray, row: np.ndarray, rows: int) -> Gather:
    places = torch.from_numpy(take.astype(np.int64))
    if len(take) == rows:
        return Gather(places)
    count = np.bincount(row, minlength=rows).reshape(-1, 1)
    return Gather(places, torch.from_numpy(row.astype(np.int64)), torch.from_numpy(count))
