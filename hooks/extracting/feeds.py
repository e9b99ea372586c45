"""What a model is fed from a corpus: shards, and in each the batches and their rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from layerscope.hooks.extracting.chunks import (
    ROW_RULES,
    Batch,
    Chunk,
    Reading,
    split_texts,
    tokenise,
)
from layerscope.hooks.extracting.gather import Gather, flatten_heads, send
from layerscope.hooks.load import tokenizer_of
from layerscope.store import tokenizer_identity

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.corpus import Corpus, Text

BATCH = {"cpu": 1024, "cuda": 16384}
"""Padded tokens of one batch."""
SAMPLED_TEXTS = 100
"""Texts that tell how many rows a character makes."""
FEWEST_CHARACTERS, MOST_CHARACTERS = 16_000, 2_000_000
"""Enough texts in a shard to sort them by length, few enough to hold them."""


class Step(Protocol):
    """One batch for the model."""

    @property
    def place(self) -> Tensor: ...
    def inputs(
        self, device: torch.device, dtype: torch.dtype
    ) -> tuple[tuple[Any, ...], dict[str, Any]]: ...
    def rows(self, site: str, x: Tensor) -> Tensor: ...
    def halves(self) -> tuple[Step, Step] | None: ...


class Shard(Protocol):
    """What becomes one file: its rows, its batches, its table."""

    @property
    def rows(self) -> int: ...
    @property
    def info(self) -> dict[str, int]: ...
    def steps(self, batch: int) -> Iterator[Step]: ...
    def table(self) -> pd.DataFrame: ...
    def describe(self, row: int) -> str: ...


class Feed(Protocol):
    """A corpus as one model reads it."""

    name: str
    unit: str
    identity: dict[str, Any]

    def __len__(self) -> int: ...
    def first(self) -> Step: ...
    def plan(self, room: float, rows_of_first: int, device: str) -> dict[str, int]: ...
    def shards(self, plan: Mapping[str, int]) -> Iterator[tuple[int, Callable[[], Shard]]]: ...
    def notes(self, info: Mapping[str, int]) -> list[str]: ...


def feed_of(
    model: nn.Module,
    corpus: Any,
    sites: Sequence[str],
    *,
    rows: str | None,
    tokenizer: Any,
    special_tokens: bool,
    too_long: str,
) -> Feed:
    """The feed for `corpus`, which may be anything that `read` takes.

    Raises:
        ValueError: options that do not fit the corpus or the model.
    """
    from layerscope.corpus import Samples, read

    data = read(corpus)
    if isinstance(data, Samples):
        from layerscope.hooks.extracting.sample_feed import SampleFeed

        return SampleFeed(data, rows or "mean")
    _refuse_decoder(model, sites)
    if too_long not in ("truncate", "refuse"):
        raise ValueError(f"too_long is 'truncate' or 'refuse', not {too_long!r}")
    rule = rows or "tokens"
    if rule not in ROW_RULES:
        raise ValueError(f"rows={rule!r} is unknown for texts; there is: {', '.join(ROW_RULES)}")
    reader = tokenizer_of(model, tokenizer)
    reading = Reading(
        tokenizer=reader,
        rows=rule,
        context=context_of(model, reader),
        special_tokens=special_tokens,
    )
    return TextFeed(data, reading, too_long, _quiet_arguments(model))


def context_of(model: nn.Module, tokenizer: Any) -> int | None:
    """The longest text in tokens that both model and tokenizer take; None where neither says."""
    limits = []
    config = getattr(model, "config", None)
    if config is not None:
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        limits.append(getattr(text, "max_position_embeddings", None))
    limits.append(getattr(tokenizer, "model_max_length", None))
    known = [int(limit) for limit in limits if limit is not None and 0 < limit < 10**7]
    return min(known) if known else None


def _refuse_decoder(model: nn.Module, sites: Sequence[str]) -> None:
    both = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    decoder = [site for site in sites if not site.startswith("encoder.")]
    if both and decoder:
        raise ValueError(
            f"texts feed the encoder of {type(model).__name__}, so rows of {decoder[0]!r} would "
            "belong to other tokens; ask for 'encoder.blocks.*.resid_post', or give tensors with "
            "decoder_input_ids"
        )


def _quiet_arguments(model: nn.Module) -> dict[str, Any]:
    """Arguments that spare work nobody reads: no key-value cache."""
    accepted = inspect.signature(model.forward).parameters
    return {"use_cache": False} if "use_cache" in accepted else {}


@dataclass(frozen=True)
class TextStep:
    """A padded batch of texts."""

    chunk: Chunk
    batch: Batch
    pad: int
    extra: dict[str, Any]
    gathers: dict[torch.device, Gather] = field(default_factory=dict)
    """The batch's gather on each device that was asked for."""

    @property
    def place(self) -> Tensor:
        return self.batch.place

    def inputs(
        self, device: torch.device, dtype: torch.dtype
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tensors = {
            "input_ids": self.batch.input_ids,
            "attention_mask": self.batch.attention_mask,
        }
        tensors = {name: send(x, device) for name, x in tensors.items()}
        return (), tensors | self.extra

    def rows(self, site: str, x: Tensor) -> Tensor:
        if x.device not in self.gathers:
            self.gathers[x.device] = self.batch.gather.to(x.device)
        vectors: Tensor = self.gathers[x.device](self._checked(site, flatten_heads(site, x)))
        return vectors

    def _checked(self, site: str, x: Tensor) -> Tensor:
        if x.shape[:2] != self.batch.input_ids.shape:
            raise ValueError(
                f"{site} has shape {tuple(x.shape)} for a batch of "
                f"{tuple(self.batch.input_ids.shape)} tokens: it holds no vector for each token; "
                "read it with capture()"
            )
        return x

    def halves(self) -> tuple[TextStep, TextStep] | None:
        members = self.batch.members
        if len(members) < 2:
            return None
        middle = len(members) // 2
        left, right = (
            TextStep(self.chunk, self.chunk.batch(part, self.pad), self.pad, self.extra)
            for part in (members[:middle], members[middle:])
        )
        return left, right


@dataclass(frozen=True)
class TextShard:
    """A run of texts that becomes one file."""

    chunk: Chunk
    pad: int
    extra: dict[str, Any]

    @property
    def rows(self) -> int:
        return self.chunk.rows

    @property
    def info(self) -> dict[str, int]:
        texts = self.chunk.texts
        return {
            "texts": len(texts),
            "tokens": sum(len(text.ids) for text in texts),
            "truncated": sum(text.cut for text in texts),
        }

    def steps(self, batch: int) -> Iterator[TextStep]:
        for members in self.chunk.batches(batch, self.pad):
            yield TextStep(self.chunk, members, self.pad, self.extra)

    def table(self) -> pd.DataFrame:
        return self.chunk.table()

    def describe(self, row: int) -> str:
        line = self.table().iloc[row]
        return f"text {line['text']}, token {line['token']!r}, position {line['position']}"


class TextFeed:
    """Texts, tokenised chunk by chunk."""

    unit = "text"

    def __init__(
        self, corpus: Corpus, reading: Reading, too_long: str, extra: dict[str, Any]
    ) -> None:
        self.corpus, self.reading, self.too_long, self.extra = corpus, reading, too_long, extra
        self.name = corpus.name
        pad = reading.tokenizer.pad_token_id
        self.pad = 0 if pad is None else int(pad)
        self.identity = {
            "tokenizer": tokenizer_identity(reading.tokenizer),
            "corpus": corpus.fingerprint,
            "rows": {
                "rule": reading.rows,
                "special_tokens": reading.special_tokens,
                "context": reading.context,
            },
        }

    def __len__(self) -> int:
        return len(self.corpus)

    def first(self) -> TextStep:
        """A batch of the first text that makes rows."""
        for index, text in enumerate(self.corpus):
            shard = self._prepare([text], index)
            if shard.rows:
                return next(shard.steps(1))
        raise ValueError(
            f"{self.corpus!r} makes no rows with rows={self.reading.rows!r}: "
            "every text is empty, or no labelled word meets a token; print(corpus) says what was read"
        )

    def plan(self, room: float, rows_of_first: int, device: str) -> dict[str, int]:
        """Characters of a shard for files of about `room` rows, and padded tokens of a batch."""
        sample = list(islice(self.corpus, SAMPLED_TEXTS))
        rows = self._prepare(sample, 0).rows
        characters = sum(len(text.content) for text in sample)
        wanted = int(room * characters / max(rows, 1))
        return {
            "shard": min(max(wanted, FEWEST_CHARACTERS), MOST_CHARACTERS),
            "batch": BATCH.get(device, BATCH["cuda"]),
        }

    def shards(self, plan: Mapping[str, int]) -> Iterator[tuple[int, Callable[[], TextShard]]]:
        first = 0
        for run in split_texts(self.corpus, plan["shard"]):
            yield len(run), partial(self._prepare, run, first)
            first += len(run)

    def notes(self, info: Mapping[str, int]) -> list[str]:
        cut = info.get("truncated", 0)
        context = self.reading.context
        what = "1 text was" if cut == 1 else f"{cut:,} texts were"
        lost = [f"{what} cut at the context of {context:,} tokens"] if cut else []
        return [*self.corpus.notes, *lost]

    def _prepare(self, texts: Sequence[Text], first: int) -> TextShard:
        chunk = tokenise(texts, first, self.reading)
        if self.too_long == "refuse":
            for text, tokens in zip(texts, chunk.texts, strict=True):
                if tokens.cut:
                    raise ValueError(
                        f"text {text.id!r} is longer than the context of {self.reading.context} "
                        "tokens; split it, or pass too_long='truncate'"
                    )
        return TextShard(chunk, self.pad, self.extra)
