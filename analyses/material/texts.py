"""Texts an analysis runs over: tokenised, and with the groups that must not be torn apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.material.resampling import Floats, mean_intervals
from layerscope.corpus import Corpus, bundled, read
from layerscope.hooks.capture import capture
from layerscope.hooks.load import device_of
from layerscope.hooks.prompts import Prompts, as_prompts
from layerscope.hooks.quiet import undisturbed

DEFAULT_TEXTS = 400
"""How many bundled sentences are read where no data are given."""
LOGITS = 2**28
"""Bytes of numbers over the vocabulary that are held at once."""


@dataclass(frozen=True, eq=False)
class Texts:
    """Tokenised texts, each in a group (its document; without documents, its own)."""

    prompts: Prompts
    groups: NDArray[np.int64]
    """`[texts]` numbers from 0."""
    name: str

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.prompts.notes

    @property
    def tokens(self) -> int:
        """Tokens of all texts."""
        return sum(len(ids) for ids in self.prompts.ids)

    @property
    def n_groups(self) -> int:
        return len(np.unique(self.groups))

    def chosen(self, index: Sequence[int]) -> Texts:
        """Some of the texts, in the order of `index`."""
        one = self.prompts
        part = replace(
            one,
            ids=tuple(one.ids[i] for i in index),
            texts=tuple(one.texts[i] for i in index),
            spans=tuple(one.spans[i] for i in index),
        )
        numbers = np.unique(self.groups[list(index)], return_inverse=True)[1]
        return Texts(part, numbers.astype(np.int64), self.name)

    def split(self, test: float, *, seed: int) -> tuple[Texts, Texts]:
        """Texts to fit on and to measure on; no group is in both.

        Raises:
            ValueError: there is only one group.
        """
        count = self.n_groups
        if count < 2:
            raise ValueError(
                f"{self.name!r} is one group, so nothing can be held out; give more texts, or "
                "other texts to fit on"
            )
        order = np.random.default_rng(seed).permutation(count)
        held = set(order[: min(max(1, round(test * count)), count - 1)].tolist())
        inside = np.array([group in held for group in self.groups])
        return self.chosen(np.flatnonzero(~inside).tolist()), self.chosen(
            np.flatnonzero(inside).tolist()
        )

    def batches(self, tokens: int) -> Iterator[tuple[list[int], Tensor]]:
        """`(indices [b], ids [b, p])` of at most about `tokens` tokens; no padding."""
        longest = max(len(ids) for ids in self.prompts.ids)
        rows = max(1, tokens // longest)
        for index, batch in self.prompts.batches(rows):
            yield index.tolist(), batch["input_ids"]


def as_texts(
    model: nn.Module, data: Any = None, *, tokenizer: Any = None, limit: int | None = None
) -> Texts:
    """Texts for `model`; what is longer than its context is cut, with a note.

    Args:
        data: A corpus, a path that `layerscope.read` opens (a single string is a path), a list of
            texts, ids, or a batch as `as_prompts` takes it; None takes bundled sentences.
        tokenizer: Object or path; by default the model's own.
        limit: At most so many texts, the first ones.

    Raises:
        FileNotFoundError: nothing is at the path.
        ValueError: no texts, or an encoder-decoder, whose decoder reads no text of its own.
    """
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ValueError(
            f"{type(model).__name__} is an encoder-decoder: texts feed its encoder, and its decoder "
            "has nothing to read; this analysis is for models of one stack"
        )
    if data is None:
        data = bundled().take(limit or DEFAULT_TEXTS)
    if isinstance(data, (str, Path)):
        data = _opened(data)
    if isinstance(data, Corpus):
        return _of_corpus(model, data if limit is None else data.take(limit), tokenizer)
    prompts = as_prompts(model, data, tokenizer, too_long="truncate")
    found = Texts(prompts, np.arange(len(prompts)), f"{len(prompts)} texts")
    return found if limit is None or len(found) <= limit else found.chosen(range(limit))


def _opened(path: str | Path) -> Any:
    try:
        return read(path)
    except FileNotFoundError as error:
        if isinstance(path, Path):
            raise
        raise FileNotFoundError(
            f"{error} (a string is a path; give a text in a list: [{path[:40]!r}])"
        ) from None


def _of_corpus(model: nn.Module, corpus: Corpus, tokenizer: Any) -> Texts:
    listed = [(text.content, text.group) for text in corpus]
    contents, groups = zip(*listed, strict=True) if listed else ((), ())
    prompts = as_prompts(model, list(contents), tokenizer, too_long="truncate")
    prompts = replace(prompts, notes=(*corpus.notes, *prompts.notes))
    numbers = np.unique(np.array(groups), return_inverse=True)[1]
    return Texts(prompts, numbers.astype(np.int64), corpus.name)


def vocabulary(model: nn.Module) -> int:
    """How many tokens the model's configuration names; 1 where it names none."""
    return getattr(getattr(model, "config", None), "vocab_size", None) or 1


def tokens_at_once(model: nn.Module, *, most: int = 2048, each: int = 16) -> int:
    """Tokens of a batch, at most `most`, whose numbers over the vocabulary fit into `LOGITS`.

    Args:
        model: Has a vocabulary.
        most: Where that is small.
        each: Bytes for each token and word of the vocabulary.
    """
    return max(1, min(most, LOGITS // (each * vocabulary(model))))


def residuals(model: nn.Module, ids: Tensor) -> Tensor:
    """The residual stream at `embed` and after each block: `[L + 1, b, p, d]`.

    The last is what enters the final norm, not what leaves it. In the model's own dtype.

    Args:
        ids: `[b, p]`, without padding.

    Raises:
        ValueError: a state is NaN or infinite.
    """
    with undisturbed(model), capture(model, ["embed", "all"], stop=True) as seen:
        run(model, ids)
    states = torch.stack([seen[site] for site in seen])
    for site, x in zip(seen, states, strict=True):
        check_finite(site, x, ids)
    return states


def check_finite(site: str, states: Tensor, ids: Tensor) -> None:
    """Raises ValueError, with site and position, if a state `[b, p, ...]` is NaN or infinite."""
    bad = ~torch.isfinite(states).flatten(2).all(-1)
    if bad.any():
        row, position = (int(i) for i in bad.nonzero()[0])
        raise ValueError(
            f"{site} is NaN or infinite at position {position} of the text with ids "
            f"{ids[row].tolist()[:8]}...; leave that text out, or load the model in float32 or "
            "bfloat16"
        )


def run(model: nn.Module, ids: Tensor) -> Any:
    """Call the model on ids `[b, p]`, on its own device; by name where it knows ``input_ids``."""
    here = ids.to(device_of(model))
    kinds = signature(model.forward).parameters
    named = "input_ids" in kinds or any(p.kind is p.VAR_KEYWORD for p in kinds.values())
    return model(input_ids=here) if named else model(here)


def residual_sites(blocks: int) -> list[str]:
    """The names of `residuals`, in order."""
    return ["embed", *(f"blocks.{i}.resid_post" for i in range(blocks))]


def looks_ahead(model: nn.Module, ids: Tensor) -> bool:
    """Whether a token changes the states of tokens before it, as in an encoder.

    Args:
        ids: `[p]`, at least 2 tokens; with fewer the answer is False.
    """
    if len(ids) < 2:
        return False
    other = ids.clone()
    other[-1] = ids[0] if ids[0] != ids[-1] else (ids[-1] + 1) % (int(ids.max()) + 1)
    one, two = residuals(model, torch.stack([ids, other]))[:, :, :-1].float().unbind(1)
    return not torch.allclose(one, two, rtol=1e-3, atol=1e-5 * float(one.abs().max()))


def group_means(
    sums: Floats, counts: Floats, texts: Texts, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Means of `sums` `[..., texts]` over `counts` `[texts]`, and 95 % intervals over groups."""
    flat = np.zeros((texts.n_groups, sums[..., 0].size))
    np.add.at(flat, texts.groups, sums.reshape(-1, len(texts)).T)
    total = np.bincount(texts.groups, counts, texts.n_groups).astype(np.float64)
    with np.errstate(invalid="ignore"):  # nothing was counted anywhere: NaN is the answer
        low, high = mean_intervals(flat, total, seed=seed)
        mean = flat.sum(0) / total.sum()
    shape = sums.shape[:-1]
    return mean.reshape(shape), low.reshape(shape), high.reshape(shape)
