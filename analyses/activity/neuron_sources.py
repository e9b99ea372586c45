"""Rows of neurons with who they are: from texts or samples that a model runs over, or a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from layerscope.analyses.activity.counters import Who
from layerscope.analyses.material.row_rules import row_rule
from layerscope.analyses.material.texts import Texts, as_texts, run
from layerscope.corpus import Samples, read
from layerscope.hooks.extracting.gather import flatten_heads, reduce_sample
from layerscope.hooks.listening.watch import StopForward, watch
from layerscope.hooks.load import device_of, dtype_of
from layerscope.hooks.quiet import undisturbed
from layerscope.store import Store

if TYPE_CHECKING:
    from layerscope.corpus import SampleBatch

See = Callable[[str, Tensor, Who], None]
BATCH = {"cpu": 1024, "cuda": 16384}
"""Tokens of one forward pass."""
SAMPLES = 32
STORE_BYTES = 64 << 20


class Source(Protocol):
    """Where rows come from."""

    name: str
    groups: int
    apart: str
    """What `Who.apart` marks, in words; empty where nothing is set apart."""
    notes: tuple[str, ...]

    def feed(self, sites: Sequence[str], see: See, *, progress: bool) -> None:
        """Call ``see(site, rows [rows, width], who)`` for all rows of all sites."""

    def named(self, text: int, position: int) -> str:
        """The token (or what there is of it) at a place."""

    def of(self, model: nn.Module) -> Source:
        """The same rows of another model."""


class ModelTexts:
    """Texts of tokens, in batches of equal length, so that there is no padding."""

    apart = "the first token of each text and special tokens"

    def __init__(self, model: nn.Module, texts: Texts) -> None:
        self.model, self.texts = model, texts
        self.name, self.groups = f"{texts.name}, {texts.tokens:,} tokens", texts.n_groups
        self.notes = texts.notes
        known = getattr(texts.prompts.tokenizer, "all_special_ids", None) or []
        self._special = torch.tensor(sorted(known), dtype=torch.long)

    def feed(self, sites: Sequence[str], see: See, *, progress: bool) -> None:
        from tqdm.auto import tqdm

        budget = BATCH.get(device_of(self.model).type, BATCH["cuda"])
        with tqdm(total=len(self.texts), desc="activity", unit="text", disable=not progress) as bar:
            for index, ids in self.texts.batches(budget):
                who = self._who(index, ids)
                with (
                    undisturbed(self.model),
                    suppress(StopForward),
                    watch(self.model, sites, _rows(see, who, ids.shape), stop=True),
                ):
                    run(self.model, ids)
                bar.update(len(index))

    def named(self, text: int, position: int) -> str:
        return self.texts.prompts.tokens(text)[position]

    def of(self, model: nn.Module) -> ModelTexts:
        return ModelTexts(model, self.texts)

    def _who(self, index: list[int], ids: Tensor) -> Who:
        length = ids.shape[1]
        position = np.tile(np.arange(length), len(index))
        apart = (position == 0) | torch.isin(ids, self._special).flatten().numpy()
        return Who(
            self.texts.groups[index].repeat(length), apart, np.repeat(index, length), position
        )


class ModelSamples:
    """Tensors for a model that reads no text: each position of a feature map is a row."""

    apart = ""
    notes: tuple[str, ...]

    def __init__(self, model: nn.Module, samples: Samples) -> None:
        self.model, self.samples = model, samples
        self.notes = tuple(samples.notes)
        names = [
            np.arange(b.start, b.stop).astype(str) if b.groups is None else b.groups.astype(str)
            for b in samples.batches(1024)
        ]
        self._codes = np.unique(np.concatenate(names), return_inverse=True)[1].astype(np.int64)
        self.groups = int(self._codes.max()) + 1
        self.name = f"{samples.name}, {len(self._codes):,} samples"

    def feed(self, sites: Sequence[str], see: See, *, progress: bool) -> None:
        from tqdm.auto import tqdm

        with tqdm(
            total=len(self._codes), desc="activity", unit="sample", disable=not progress
        ) as bar:
            for batch in self.samples.batches(SAMPLES):
                seen = self._seen(see, batch)
                with (
                    undisturbed(self.model),
                    suppress(StopForward),
                    watch(self.model, sites, seen, stop=True),
                ):
                    called(self.model, batch)
                bar.update(batch.stop - batch.start)

    def named(self, text: int, position: int) -> str:
        return f"sample {text}, position {position}"

    def of(self, model: nn.Module) -> ModelSamples:
        return ModelSamples(model, self.samples)

    def _seen(self, see: See, batch: Any) -> Callable[[str, Tensor], None]:
        count = batch.stop - batch.start

        def seen(site: str, x: Tensor) -> None:
            rows = reduce_sample(x, "positions", count)
            positions = rows.shape[1]
            kept = np.ones((count, positions), dtype=bool)
            if batch.mask is not None and batch.mask.shape[1] == positions:
                kept = batch.mask.numpy().astype(bool)
            sample, position = np.nonzero(kept)
            text = sample + batch.start
            who = Who(self._codes[text], np.zeros(len(text), dtype=bool), text, position)
            see(site, rows[torch.from_numpy(kept).to(rows.device)], who)

        return seen


class Stored:
    """Rows that are on disk already."""

    def __init__(self, store: Store) -> None:
        self.store, self.notes = store, tuple(store.notes)
        rows = store.rows
        self.name = f"{store.about.get('corpus', store.path.name)}, {len(rows):,} rows"
        self._group = np.unique(rows["group"].astype(str), return_inverse=True)[1].astype(np.int64)
        self.groups = int(self._group.max()) + 1 if len(rows) else 0
        self._position = rows["position"].to_numpy(dtype=np.int64)
        text = "token_id" in rows
        self._apart = (self._position == 0) & text
        self.apart = "the first token of each text" if self._apart.any() else ""
        rule = row_rule(store)
        if rule not in ("tokens", "positions"):
            told = (
                f"The rows of this store are {rule}: means over tokens have fewer zeros and fewer "
            )
            told += "extremes than the tokens themselves. Make the store with rows='tokens'."
            self.notes = (*self.notes, told)

    def feed(self, sites: Sequence[str], see: See, *, progress: bool) -> None:
        from tqdm.auto import tqdm

        width = sum(self.store[site].shape[1] for site in sites)
        step = max(1, STORE_BYTES // (8 * width))
        starts = tqdm(
            range(0, len(self.store), step), "activity", unit="part", disable=not progress
        )
        for start in starts:
            part = slice(start, start + step)
            number = np.arange(len(self.store))[part]
            who = Who(self._group[part], self._apart[part], number, self._position[part])
            for site in sites:
                see(site, self.store[site][part], who)

    def named(self, text: int, position: int) -> str:
        line = self.store.rows.iloc[text]
        return str(line.get("token", f"row {text}"))

    def of(self, model: nn.Module) -> Source:
        raise TypeError("a store has only its own activations; give the model")


def source_for(model: nn.Module, data: Any, tokenizer: Any, limit: int | None) -> Source:
    """Texts, or samples where `data` are tensors that are no ids.

    Raises:
        TypeError, ValueError: what cannot be fed to the model.
    """
    if isinstance(data, Samples):
        return ModelSamples(model, data)
    if is_tensors(data):
        return ModelSamples(model, read(data))
    return ModelTexts(model, as_texts(model, data, tokenizer=tokenizer, limit=limit))


def called(model: nn.Module, batch: SampleBatch) -> object:
    """Run a model on samples, on its own device and in its own dtype."""
    device, dtype = device_of(model), dtype_of(model)

    def send(x: Tensor) -> Tensor:
        return x.to(device, dtype if x.is_floating_point() else None)

    return model(*map(send, batch.args), **{name: send(x) for name, x in batch.kwargs.items()})


def is_tensors(data: Any) -> bool:
    """Whether `data` are tensors for a model that reads no ids."""
    if isinstance(data, Mapping):
        return "input_ids" not in data
    whole = getattr(data, "is_floating_point", None)
    return bool(whole()) if callable(whole) else hasattr(data, "dataset")


def _rows(see: See, who: Who, shape: Sequence[int]) -> Callable[[str, Tensor], None]:
    def seen(site: str, x: Tensor) -> None:
        rows = x if x.ndim == 2 else flatten_heads(site, x).flatten(0, 1)
        if len(rows) != shape[0] * shape[1]:
            raise ValueError(
                f"{site} has shape {tuple(x.shape)} for a batch of {shape[0]} texts of {shape[1]} "
                "tokens: it holds no vector for each token"
            )
        see(site, rows, who)

    return seen
