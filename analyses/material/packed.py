"""Texts joined and cut into windows of one length, so that attention has all its keys and no pads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from layerscope.analyses.material.texts import Texts, as_texts
from layerscope.corpus import Corpus, bundled, read
from layerscope.hooks.extracting.feeds import context_of
from layerscope.hooks.load import tokenizer_of
from layerscope.hooks.prompts import Prompts, in_force

LONGEST = 512
"""Tokens of a window where the context is longer."""


def packed(
    model: nn.Module,
    data: Any = None,
    *,
    length: int | None = None,
    most: int = 64,
    tokenizer: Any = None,
) -> Texts:
    """Windows of `length` tokens, full to the last.

    Texts follow each other with a line break between them. Each window begins and ends with the
    special tokens that the tokenizer puts around a text. What is left over at the end is dropped.

    Args:
        data: A corpus, a path or a list of texts; None takes the bundled sentences. Ids, or a batch
            of them, are taken as the windows they are.
        length: None takes the model's context, at most 512.
        most: At most so many windows.
        tokenizer: Object or path; None takes the model's own.

    Returns:
        Windows, each in the group of the text that it begins in.

    Raises:
        ValueError: no texts, or a window longer than the context.
    """
    data = bundled() if data is None else data
    if isinstance(data, (str, Path)):
        data = read(data)
    if not isinstance(data, Corpus) and not _are_texts(data):
        given = as_texts(model, data, tokenizer=tokenizer)
        return given if len(given) <= most else given.chosen(range(most))
    reader = tokenizer_of(model, tokenizer)
    context = context_of(model, reader)
    if length is not None and context is not None and length > context:
        raise ValueError(
            f"windows of {length} tokens do not fit the context of {context}; take {context} or fewer"
        )
    size = length or min(context or LONGEST, LONGEST)
    lead, tail = _around(reader)
    if size <= len(lead) + len(tail):
        raise ValueError(f"a window of {size} tokens has no room beside its special tokens")
    corpus = read(data) if not isinstance(data, Corpus) else data
    body, groups = _joined(corpus, reader, (size - len(lead) - len(tail)) * most)
    return _cut(body, groups, (lead, tail), size, most, reader, context, corpus, in_force(model))


def _are_texts(data: Any) -> bool:
    return isinstance(data, (list, tuple)) and bool(data) and all(isinstance(x, str) for x in data)


def _around(reader: Any) -> tuple[list[int], list[int]]:
    """Special tokens before and after a text."""
    encoded = reader("a")
    mask, ids = encoded.encodings[0].special_tokens_mask, encoded["input_ids"]
    first = mask.index(0) if 0 in mask else len(mask)
    last = len(mask) - mask[::-1].index(0) if 0 in mask else len(mask)
    return ids[:first], ids[last:]


def _joined(corpus: Corpus, reader: Any, enough: int) -> tuple[list[int], list[str]]:
    """Tokens of the texts in a row, and the group of each."""
    space = reader("\n", add_special_tokens=False)["input_ids"]
    body: list[int] = []
    groups: list[str] = []
    for text in corpus:
        ids = reader(text.content, add_special_tokens=False, verbose=False)["input_ids"] + space
        body += ids
        groups += [str(text.group)] * len(ids)
        if len(body) >= enough:
            break
    return body, groups


def _cut(
    body: list[int],
    groups: list[str],
    around: tuple[list[int], list[int]],
    size: int,
    most: int,
    reader: Any,
    context: int | None,
    corpus: Corpus,
    notes: tuple[str, ...],
) -> Texts:
    lead, tail = around
    inside = size - len(lead) - len(tail)
    count = min(most, len(body) // inside)
    if not body:
        raise ValueError(f"{corpus.name!r} has no tokens")
    if not count:
        count, inside = 1, len(body)
        notes += (f"The texts fill no window of {size} tokens: there are {inside}.",)
    parts = [body[i * inside : (i + 1) * inside] for i in range(count)]
    ids = tuple(torch.tensor([*lead, *part, *tail], dtype=torch.long) for part in parts)
    own = np.unique([groups[i * inside] for i in range(count)], return_inverse=True)[1]
    texts = tuple(reader.decode(part) for part in parts)
    prompts = Prompts(ids, texts, (None,) * count, reader, context, (*corpus.notes, *notes))
    return Texts(prompts, own.astype(np.int64), corpus.name)
