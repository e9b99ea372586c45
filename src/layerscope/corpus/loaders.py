"""Samples out of tensors with names, and out of a DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch.utils import data

from layerscope.corpus.labels import Asked, names_asked
from layerscope.corpus.names import nearest
from layerscope.corpus.samples import SampleBatch, Samples, batch_of, fingerprint_of

BATCH = 256
"""Samples per batch of a torch dataset that comes without a loader."""

Parts = tuple[Any, dict[str, Any], Any]
"""Inputs, labels, groups."""


def samples_of(source: Any, *, label: Asked, group: str | None, name: str | None) -> Samples:
    """Samples from a tensor, a tuple of them, a dict, a torch dataset or a DataLoader.

    Args:
        source: A dict gives the model's keyword arguments, apart from labels and group. Batches
            of a loader are inputs, ``(*inputs, labels)``, or such dicts.
        label: Which entries are labels, or ``{entry: new name}``; by default the lists in a dict,
            and ``"label"`` for what comes last in a pair.
        group: The entry with what must not straddle a split.
        name: What reports call it.

    Raises:
        ValueError: an entry that is not there, or a loader whose order changes.
    """
    if isinstance(source, data.Dataset) and not isinstance(source, data.DataLoader):
        source = data.DataLoader(source, batch_size=BATCH)
    if isinstance(source, data.DataLoader):
        return _from_loader(source, label, group, name or type(source.dataset).__name__)
    inputs, labels, groups = _parts(source, label, group, pairs=False)
    return Samples(inputs, labels=labels, groups=groups, name=name or "samples")


def _from_loader(loader: Any, label: Asked, group: str | None, name: str) -> Samples:
    def batches() -> Iterator[SampleBatch]:
        start = 0
        for item in _untouched(loader):
            inputs, labels, groups = _parts(item, label, group, pairs=True)
            batch = batch_of(inputs, labels, groups, start=start)
            yield batch
            start = batch.stop

    _check_order(loader, batches)
    return Samples.streamed(batches, name=name)


def _untouched(loader: Any) -> Iterator[Any]:
    """The loader's batches; starting them draws from the global generator, which is put back."""
    state = torch.get_rng_state()
    batches: Iterator[Any] = iter(loader)
    torch.set_rng_state(state)
    return batches


def _check_order(loader: Any, batches: Callable[[], Iterator[SampleBatch]]) -> None:
    random = (data.RandomSampler, data.WeightedRandomSampler, data.SubsetRandomSampler)
    if isinstance(getattr(loader, "sampler", None), random):
        raise ValueError(
            "this DataLoader shuffles; its samples are read more than once and must keep their "
            "order: make it with shuffle=False"
        )
    first, again = (list(islice(batches(), 1)) for _ in range(2))
    if not first:
        raise ValueError("this DataLoader holds no samples")
    if fingerprint_of(first) != fingerprint_of(again):
        raise ValueError(
            "this DataLoader gave another first batch the second time; its samples are read more "
            "than once and must be the same: switch off shuffling and random augmentation"
        )


def _parts(item: Any, label: Asked, group: str | None, *, pairs: bool) -> Parts:
    if isinstance(item, Mapping):
        return _from_names(item, label, group)
    if group is not None:
        raise ValueError(f"group={group!r}: these samples have no names; give them as a dict")
    if pairs and isinstance(item, (tuple, list)) and len(item) > 1:
        names = names_asked(label) if label is not None else {"label": "label"}
        return tuple(item[:-1]), {next(iter(names.values())): item[-1]}, None
    if label is not None:
        raise ValueError(
            f"label={label!r}: bare tensors have no labels; give a dict, such as "
            "{'x': tensor, 'digit': labels}, or pairs from a DataLoader"
        )
    return item, {}, None


def _from_names(item: Mapping[str, Any], label: Asked, group: str | None) -> Parts:
    lists = {name: name for name, value in item.items() if not _is_numbers(value)}
    names = lists if label is None else names_asked(label)
    for wanted in [*names, *([group] if group else [])]:
        if wanted not in item:
            raise ValueError(f"no {wanted!r} among these tensors; {nearest(wanted, item)}")
    inputs = {
        name: value
        for name, value in item.items()
        if name not in names and name != group and name not in lists
    }
    labels = {new: item[old] for old, new in names.items() if old != group}
    return inputs, labels, item[group] if group else None


def _is_numbers(value: Any) -> bool:
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    return isinstance(value, torch.Tensor) or (kind is not None and kind in "biuf")
