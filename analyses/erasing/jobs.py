"""From a model and its data to a job: which held-out texts or samples are run, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.erasing.asked import questions
from layerscope.analyses.erasing.decodable import Held
from layerscope.analyses.erasing.effects import Job, LossJob, TokenJob
from layerscope.analyses.material.texts import Texts, as_texts, looks_ahead, run
from layerscope.hooks.load import device_of

if TYPE_CHECKING:
    from layerscope.corpus.samples import SampleBatch
    from layerscope.store import Store

Loss = Callable[[Any, Any], Tensor]
_BATCH = 64
_TOKENS = 2048


def job_of(
    model: nn.Module,
    corpus: Any,
    store: Store,
    held: Held,
    where: str | None,
    loss: Loss | None,
    tokenizer: Any,
    max_texts: int,
    seed: int,
) -> tuple[Job, list[str]]:
    """What measures erasures on the held-out texts, and notes.

    Raises:
        ValueError: the model predicts no tokens and there is no loss, or a query without tokens.
    """
    from layerscope.corpus import Corpus

    chosen, groups, notes = _held_out(store, held, max_texts, seed)
    if not isinstance(corpus, Corpus):
        if loss is None:
            raise ValueError(
                "these data are no texts, so there is no loss on tokens; pass loss=, a function of "
                "the model's output and the batch that returns one number for each sample"
            )
        return LossJob(model, _samples(model, corpus, chosen, groups), loss, _count(groups)), notes
    texts = texts_of(model, corpus, tokenizer)
    if loss is not None:
        part = texts.chosen(chosen.tolist())
        return LossJob(model, _batches(model, part), loss, part.n_groups), notes
    fills = _fills(model, texts, chosen)
    asked = questions(texts, store.rows, chosen, held.plan.label, where, fills=fills, seed=seed)
    if fills:
        notes.append(
            "the loss is that of gaps (15 % of the tokens of a text, masked); erasers were fitted "
            "on texts without gaps"
        )
    return TokenJob(model, asked), notes


def texts_of(model: nn.Module, corpus: Any, tokenizer: Any) -> Texts:
    """All texts, so that their numbers are those of the store's rows."""
    return as_texts(model, corpus, tokenizer=tokenizer)


def _held_out(
    store: Store, held: Held, max_texts: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Numbers of the held-out texts, their groups from 0, and notes."""
    column = "text" if "text" in store.rows else "sample"
    text = store.rows[column].to_numpy()[held.plan.index[: held.cut]].astype(np.int64)
    chosen, first = np.unique(text, return_index=True)
    groups = held.plan.groups[: held.cut][first]
    notes = []
    if len(chosen) > max_texts:
        kept = np.sort(np.random.default_rng(seed).permutation(len(chosen))[:max_texts])
        notes.append(
            f"the model reads {max_texts:,} of {len(chosen):,} held-out texts, drawn at random "
            "(max_texts)"
        )
        chosen, groups = chosen[kept], groups[kept]
    return chosen, np.unique(groups, return_inverse=True)[1].astype(np.int64), notes


def _fills(model: nn.Module, texts: Texts, chosen: NDArray[np.int64]) -> bool:
    """Whether the model fills gaps; False: it predicts the next token.

    Raises:
        ValueError: neither.
    """
    longest = max((texts.prompts.ids[i] for i in chosen), key=len)
    with torch.no_grad():
        out = run(model, longest[None])
    logits = out if isinstance(out, Tensor) else getattr(out, "logits", None)
    declared = getattr(model, "get_input_embeddings", None)
    vocab = getattr(declared(), "num_embeddings", 0) if callable(declared) else 0
    shape = logits.shape if isinstance(logits, Tensor) else torch.Size()
    if len(shape) != 3 or shape[1] != len(longest) or shape[2] < vocab:
        raise ValueError(
            f"{type(model).__name__} does not predict tokens, so it has no loss on texts; load it "
            "with its language-model head, or pass loss="
        )
    if not looks_ahead(model, longest):
        return False
    if getattr(texts.prompts.tokenizer, "mask_token_id", None) is None:
        raise ValueError(
            f"{type(model).__name__} sees the tokens after a position, and its tokenizer has no mask "
            "token: neither next tokens nor gaps can be asked for; pass loss="
        )
    return True


def _batches(
    model: nn.Module, texts: Texts
) -> Callable[[], Iterator[tuple[NDArray[np.int64], Any, Callable[[], Any]]]]:
    def opened() -> Iterator[tuple[NDArray[np.int64], Any, Callable[[], Any]]]:
        for index, ids in texts.batches(_TOKENS):
            here = ids.to(device_of(model))
            yield texts.groups[index], {"input_ids": here}, partial(run, model, here)

    return opened


def _samples(
    model: nn.Module, samples: Any, chosen: NDArray[np.int64], groups: NDArray[np.int64]
) -> Callable[[], Iterator[tuple[NDArray[np.int64], Any, Callable[[], Any]]]]:
    number = dict(zip(chosen.tolist(), groups.tolist(), strict=True))

    def opened() -> Iterator[tuple[NDArray[np.int64], Any, Callable[[], Any]]]:
        for batch in samples.batches(_BATCH):
            inside = [i for i in range(batch.start, batch.stop) if i in number]
            if not inside:
                continue
            part = _only(batch, [i - batch.start for i in inside])
            device = device_of(model)
            args = tuple(x.to(device) for x in part.args)
            kwargs = {name: x.to(device) for name, x in part.kwargs.items()}
            owners = np.array([number[i] for i in inside])
            yield owners, part, partial(model, *args, **kwargs)

    return opened


def _only(batch: SampleBatch, rows: list[int]) -> SampleBatch:
    """Some samples of a batch; their places in the whole are no longer consecutive."""
    from layerscope.corpus.samples import SampleBatch

    return SampleBatch(
        tuple(x[rows] for x in batch.args),
        {name: x[rows] for name, x in batch.kwargs.items()},
        0,
        len(rows),
        None if batch.mask is None else batch.mask[rows],
        {name: x[rows] for name, x in batch.labels.items()},
        None if batch.groups is None else batch.groups[rows],
    )


def _count(groups: NDArray[np.int64]) -> int:
    return int(groups.max()) + 1
