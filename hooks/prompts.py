"""Prompts in whatever form they come, as token ids in groups of equal length: no padding at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.corpus import Corpus, read
from layerscope.hooks.edits import active
from layerscope.hooks.extracting.feeds import context_of
from layerscope.hooks.load import tokenizer_of

Spans = tuple[tuple[int, int], ...]
MAX_ROWS = 64


@dataclass(frozen=True, eq=False)
class Prompts:
    """Tokenised prompts, with the text each token came from."""

    ids: tuple[Tensor, ...]
    """One LongTensor `[p]` for each prompt, on the CPU; special tokens as the tokenizer adds them."""
    texts: tuple[str, ...]
    """What the user wrote; for ids, what they decode to, or the ids themselves without tokenizer."""
    spans: tuple[Spans | None, ...]
    """Characters of `texts` that each token covers, `(start, end)`; None where they are unknown."""
    tokenizer: Any
    """None where ids were given and the model names no tokenizer."""
    context: int | None
    """The longest prompt in tokens that model and tokenizer take; None where neither says."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def tokens(self, i: int) -> list[str]:
        """Prompt i as readable pieces, one for each token, spaces kept: ``['<s>', 'The', ' cat']``."""
        ids, spans = self.ids[i].tolist(), self.spans[i]
        if self.tokenizer is None:
            return [str(token) for token in ids]
        if spans is None:
            return [self.tokenizer.decode([token]) for token in ids]
        pieces = self.tokenizer.convert_ids_to_tokens(ids)
        text = self.texts[i]
        return [text[a:b] or piece for (a, b), piece in zip(spans, pieces, strict=True)]

    def offsets(self, i: int) -> Spans | None:
        """`(start, end)` characters of each token of prompt i; None where they are unknown."""
        return self.spans[i]

    def batches(self, max_rows: int = MAX_ROWS) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """`(indices [b], {"input_ids": [b, p]})`: every prompt once, batches of equal length."""
        groups: dict[int, list[int]] = {}
        for index, ids in enumerate(self.ids):
            groups.setdefault(len(ids), []).append(index)
        for members in groups.values():
            for start in range(0, len(members), max_rows):
                part = members[start : start + max_rows]
                yield torch.tensor(part), {"input_ids": torch.stack([self.ids[i] for i in part])}

    def position(self, i: int, of: int | str | None = None) -> int:
        """The absolute position of a token of prompt i.

        Args:
            of: A position (negatives count from the end), a part of the prompt (the last token of
                its last occurrence), or None for the last token.

        Raises:
            IndexError: a position outside the prompt.
            LookupError: the part does not occur in the prompt, or where tokens lie in the text is
                unknown.
        """
        return self.positions(i, of)[-1]

    def positions(self, i: int, of: int | str | None = None) -> list[int]:
        """All tokens of the part `of` (its last occurrence); one position for a number or None."""
        length = len(self.ids[i])
        if isinstance(of, str):
            return self._covering(i, of)
        place = -1 if of is None else of
        if not -length <= place < length:
            raise IndexError(
                f"position {of} is outside prompt {i} ({self._quoted(i)}), which has {length} "
                f"tokens: 0 to {length - 1}, or -{length} to -1 from the end"
            )
        return [place % length]

    def _covering(self, i: int, part: str) -> list[int]:
        spans = self.spans[i]
        if spans is None:
            raise LookupError(
                f"where tokens lie in prompt {i} ({self._quoted(i)}) is unknown, since it was "
                f"given as ids; give a number instead of {part!r}, or the prompt as text"
            )
        start = self.texts[i].rfind(part)
        if start < 0 or not part.strip():
            raise LookupError(
                f"{part!r} does not occur in prompt {i} ({self._quoted(i)}); its tokens are "
                f"{self.tokens(i)}"
            )
        end = start + len(part.rstrip())  # the space after a word belongs to the next token
        return [place for place, (a, b) in enumerate(spans) if a < end and b > start]

    def _quoted(self, i: int) -> str:
        text = self.texts[i]
        return repr(text if len(text) <= 60 else f"{text[:57]}...")


def as_prompts(
    model: nn.Module, prompts: Any, tokenizer: Any = None, *, too_long: str = "refuse"
) -> Prompts:
    """Prompts for `model`, tokenised.

    Args:
        prompts: Texts, sequences of ids, a batch (dict with `input_ids` `[b, p]` and maybe
            `attention_mask`, padded on either side) or its ids alone, or a corpus: a `Corpus`, or
            a path that `read` takes. A single text is one prompt.
        tokenizer: Object or path; by default the model's own. Ids need none, but without one their
            tokens have no readable names.
        too_long: ``"refuse"`` prompts longer than the context, or ``"truncate"`` them, with the
            count in the notes.

    Raises:
        ValueError: no prompts, a prompt without tokens or longer than the context, ids outside
            the vocabulary, texts without a tokenizer.
        TypeError: something else than prompts.
    """
    if too_long not in ("refuse", "truncate"):
        raise ValueError(f"too_long is 'refuse' or 'truncate', not {too_long!r}")
    given = _listed(prompts)
    if not given:
        raise ValueError("there are no prompts; give at least one text or sequence of ids")
    if all(isinstance(prompt, str) for prompt in given):
        reader = tokenizer_of(model, tokenizer)
        found = [_read(reader, text) for text in given]
    else:
        reader = _maybe_tokenizer(model, tokenizer)
        found = [_read_ids(reader, i, prompt) for i, prompt in enumerate(given)]
    context = context_of(model, reader)
    found, notes = _fitting(found, context, too_long)
    _require_tokens(model, found)
    ids, texts, spans = zip(*found, strict=True)
    return Prompts(ids, texts, spans, reader, context, (*notes, *in_force(model)))


def in_force(model: nn.Module) -> tuple[str, ...]:
    """A note that names the changes of an open `edit`; none where nothing is changed."""
    changes = active(model)
    return (f"Measured with these changes in force: {'; '.join(changes)}.",) if changes else ()


_Read = tuple[Tensor, str, Spans | None]


def _listed(prompts: Any) -> list[Any]:
    """One entry for each prompt: a text, or its ids as a tensor or a sequence."""
    if isinstance(prompts, str):
        return [prompts]
    if isinstance(prompts, (Corpus, Path)):
        return [text.content for text in _texts(prompts)]
    if isinstance(prompts, Mapping):
        if "input_ids" not in prompts:
            raise ValueError(f"a batch of prompts has input_ids; this one has {list(prompts)}")
        ids = torch.as_tensor(prompts["input_ids"])
        return _unpadded(torch.atleast_2d(ids), prompts.get("attention_mask"))
    if isinstance(prompts, Tensor):
        return _unpadded(torch.atleast_2d(prompts), None)
    if not isinstance(prompts, Sequence):
        raise TypeError(
            f"prompts are texts, ids, a batch or a corpus, not {type(prompts).__name__}"
        )
    if prompts and all(isinstance(p, int) for p in prompts):
        return [list(prompts)]
    kinds = {isinstance(prompt, str) for prompt in prompts}
    if len(kinds) > 1:
        raise TypeError("prompts are either all texts or all ids; these are mixed")
    return list(prompts)


def _texts(source: Corpus | Path) -> Corpus:
    data = read(source)
    if not isinstance(data, Corpus):
        raise TypeError(f"prompts are texts; {source} holds {type(data).__name__}")
    return data


def _unpadded(ids: Tensor, mask: Any) -> list[Tensor]:
    """Each row without its pads; positions then count from the first real token."""
    if ids.ndim != 2 or ids.is_floating_point():
        raise ValueError(f"ids are whole numbers [b, p], not {ids.dtype} {list(ids.shape)}")
    if mask is None:
        return list(ids)
    real = torch.as_tensor(mask).bool()
    if real.shape != ids.shape:
        raise ValueError(
            f"attention_mask {list(real.shape)} does not fit input_ids {list(ids.shape)}; "
            "take both from one call of the tokenizer"
        )
    return [row[keep] for row, keep in zip(ids, real, strict=True)]


def _read(tokenizer: Any, text: str) -> _Read:
    # Aloud it would warn of a length that `_fitting` is about to cut or to refuse.
    encoded = tokenizer(text, verbose=False)
    offsets = tuple((int(a), int(b)) for a, b in encoded.encodings[0].offsets)
    return torch.tensor(encoded["input_ids"], dtype=torch.long), text, offsets


def _read_ids(tokenizer: Any, i: int, prompt: Any) -> _Read:
    """Ids keep their values; their text and offsets are known where it encodes back to them."""
    ids = torch.as_tensor(prompt).cpu()
    if ids.ndim != 1 or (len(ids) and (ids.is_floating_point() or ids.dtype == torch.bool)):
        raise TypeError(f"prompt {i} is neither a text nor a sequence of ids: {prompt!r}")
    ids = ids.long()
    if tokenizer is None:
        return ids, " ".join(map(str, ids.tolist())), None
    text = tokenizer.decode(ids.tolist(), skip_special_tokens=True)
    for special in (True, False):
        again = tokenizer(text, add_special_tokens=special, verbose=False)
        if again["input_ids"] == ids.tolist():
            return ids, text, tuple((int(a), int(b)) for a, b in again.encodings[0].offsets)
    return ids, tokenizer.decode(ids.tolist()), None


def _maybe_tokenizer(model: nn.Module, tokenizer: Any) -> Any:
    """For ids a tokenizer only adds readable names, so the model's own may be out of reach."""
    if tokenizer is not None:
        return tokenizer_of(model, tokenizer)
    with suppress(ValueError, OSError):
        return tokenizer_of(model)
    return None


def _fitting(
    found: list[_Read], context: int | None, too_long: str
) -> tuple[list[_Read], tuple[str, ...]]:
    if context is None:
        return found, ()
    long = [i for i, (ids, _, _) in enumerate(found) if len(ids) > context]
    if long and too_long == "refuse":
        i = long[0]
        raise ValueError(
            f"prompt {i} ({found[i][1][:40]!r}...) has {len(found[i][0])} tokens, more than the "
            f"context of {context}; shorten it, or pass too_long='truncate' where that is offered"
        )
    cut = [_cut(one, context) for one in found]
    note = f"{len(long)} of {len(found)} prompts were cut at the context of {context} tokens"
    return cut, (note,) if long else ()


def _cut(one: _Read, context: int) -> _Read:
    ids, text, spans = one
    if len(ids) <= context or spans is None:
        return ids[:context], text, spans
    kept = spans[:context]
    return ids[:context], text[: max(end for _, end in kept)], kept


def _require_tokens(model: nn.Module, found: Sequence[_Read]) -> None:
    declared = getattr(model, "get_input_embeddings", None)
    size = getattr(declared(), "num_embeddings", None) if callable(declared) else None
    for i, (ids, text, _) in enumerate(found):
        if not len(ids):
            raise ValueError(f"prompt {i} ({text!r}) has no tokens; leave it out")
        if size is not None and not 0 <= int(ids.min()) <= int(ids.max()) < size:
            wrong = next(n for n in ids.tolist() if not 0 <= n < size)
            raise ValueError(
                f"id {wrong} of prompt {i} is outside the model's vocabulary of {size}; "
                "was it made by the tokenizer of another model?"
            )
