"""Samples: inputs, labels and groups for models that do not read text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.corpus.labels import check_names

if TYPE_CHECKING:
    from layerscope.corpus.summary import CorpusFinding

Array = NDArray[Any]
SLICE = 1024
"""Samples hashed or listed at once where nobody says how many."""


@dataclass(frozen=True)
class SampleBatch:
    """Consecutive samples: call the model as ``model(*batch.args, **batch.kwargs)``."""

    args: tuple[Tensor, ...]
    kwargs: Mapping[str, Tensor]
    start: int
    """Place of the first sample in the whole."""
    stop: int
    """One past the last."""
    mask: Tensor | None = None
    """``[samples, positions]``, true where a position is real rather than padding."""
    labels: Mapping[str, Array] = field(default_factory=dict)
    """``[samples]`` or ``[samples, positions]`` each."""
    groups: Array | None = None
    """``[samples]``; None where each sample is its own group."""

    def __post_init__(self) -> None:
        for name, value in self.parts().items():
            if len(value) != self.stop - self.start:
                raise ValueError(
                    f"{name} has {len(value):,} samples, others have {self.stop - self.start:,}; "
                    "the first dimension of each counts samples"
                )

    def parts(self) -> dict[str, Any]:
        """Everything it holds, by what an error would call it."""
        parts: dict[str, Any] = {f"input {i}": x for i, x in enumerate(self.args)} | {
            f"input {name!r}": x for name, x in self.kwargs.items()
        }
        parts |= {f"label {name!r}": x for name, x in self.labels.items()}
        optional = {"mask": self.mask, "group": self.groups}
        return parts | {name: x for name, x in optional.items() if x is not None}

    def cut(self, begin: int, end: int) -> SampleBatch:
        """Samples `begin` to `end`, counted from this batch's own first."""
        part = slice(begin, end)
        end = min(end, self.stop - self.start)
        return SampleBatch(
            tuple(x[part] for x in self.args),
            {name: x[part] for name, x in self.kwargs.items()},
            self.start + begin,
            self.start + end,
            None if self.mask is None else self.mask[part],
            {name: x[part] for name, x in self.labels.items()},
            None if self.groups is None else self.groups[part],
        )


class Samples:
    """Tensors for a model, with labels; what `read` makes of tensors and loaders.

    Args:
        inputs: A tensor or a tuple of them (positional arguments of the model), or a dict
            (keyword arguments); the first dimension counts samples. Arrays become tensors.
        labels: ``[samples]`` or ``[samples, positions]`` under each name.
        groups: ``[samples]`` what must not straddle a split; by default each sample by itself.
        mask: ``[samples, positions]``, true where a position is real; by default an input called
            ``attention_mask``, else every position is real.
        name: What reports call it.

    Raises:
        ValueError: no samples, or different numbers of them.
    """

    def __init__(
        self,
        inputs: Any,
        *,
        labels: Mapping[str, Any] | None = None,
        groups: Sequence[Any] | Array | None = None,
        mask: Tensor | Array | None = None,
        name: str = "samples",
    ) -> None:
        whole = batch_of(inputs, labels or {}, groups, mask)
        if not whole.stop:
            raise ValueError(f"{name!r} holds no samples")
        self.name = name
        self._batches: Callable[[], Iterator[SampleBatch]] = lambda: iter([whole])

    @classmethod
    def streamed(cls, batches: Callable[[], Iterator[SampleBatch]], *, name: str) -> Samples:
        """Samples that are made anew at each reading; `batches` opens the source."""
        made = cls.__new__(cls)
        made.name = name
        made._batches = batches
        return made

    def batches(self, size: int) -> Iterator[SampleBatch]:
        """Consecutive batches of at most `size` samples; a loader's own may be smaller."""
        if size < 1:
            raise ValueError(f"a batch has at least 1 sample, not {size}")
        for batch in self._batches():
            for begin in range(0, batch.stop - batch.start, size):
                yield batch.cut(begin, begin + size)

    @cached_property
    def _length(self) -> int:
        return max(batch.stop for batch in self._batches())

    def __len__(self) -> int:
        return self._length

    @cached_property
    def labels(self) -> Mapping[str, Array]:
        """Every label, ``[samples]`` or ``[samples, positions]``.

        Raises:
            ValueError: batches of a loader are padded to different lengths.
        """
        parts = [batch.labels for batch in self._batches()]
        for name in parts[0]:
            if len({part[name].shape[1:] for part in parts}) > 1:
                raise ValueError(
                    f"label {name!r} has another length in each batch; read it batch by batch, "
                    "or pad every batch to one length"
                )
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @cached_property
    def groups(self) -> Array:
        """``[samples]`` names of groups; each sample's own place where none were given."""
        parts = [batch.groups for batch in self._batches()]
        given = [part for part in parts if part is not None]
        return np.concatenate(given) if given else np.arange(len(self)).astype(str)

    @property
    def mask(self) -> Tensor | None:
        """``[samples, positions]`` where every batch has one of the same length, else None."""
        parts = [batch.mask for batch in self._batches()]
        given = [part for part in parts if part is not None]
        even = len({part.shape[1] for part in given}) == 1
        return torch.cat(given) if len(given) == len(parts) and even else None

    @property
    def fingerprint(self) -> str:
        """sha256 over the bytes of inputs, mask, labels and groups; 64 hex digits.

        Computed at each access, because tensors can change in place. How samples are divided into
        batches does not enter.
        """
        return fingerprint_of(self.batches(SLICE))

    @property
    def notes(self) -> tuple[str, ...]:
        """Caveats of the reading."""
        return ()

    def finding(self) -> CorpusFinding:
        """Counts of samples, groups and label values, as a finding for a report."""
        from layerscope.corpus.summary import summarise_samples

        return summarise_samples(self)

    def __repr__(self) -> str:
        first = next(self.batches(1))
        inputs = {**{str(i): x for i, x in enumerate(first.args)}, **first.kwargs}
        shapes = ", ".join(f"{name} {list(x.shape[1:])}" for name, x in inputs.items())
        labels = ", ".join(first.labels) or "none"
        return f"Samples({self.name!r}, {len(self):,} samples, inputs: {shapes}, labels: {labels})"

    def _repr_html_(self) -> str:
        from layerscope.corpus.cards import samples_card

        return samples_card(self)


def fingerprint_of(batches: Iterable[SampleBatch]) -> str:
    """sha256 over everything in the batches, however they are divided."""
    digests: dict[str, _PartDigest] = {}
    for batch in batches:
        for name, part in batch.parts().items():
            digests.setdefault(name, _PartDigest()).update(part)
    total = hashlib.sha256()
    for name in sorted(digests):
        total.update(f"{name}:{digests[name].hexdigest()}\n".encode())
    return total.hexdigest()


class _PartDigest:
    """sha256 of one tensor that arrives in slices."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._kind = ""

    def update(self, part: Tensor | Array) -> None:
        # The dtype of strings says how long the longest is, which depends on the batch.
        dtype = "text" if _is_text(part) else part.dtype
        kind = f"{dtype} {list(part.shape[1:])};"
        if kind != self._kind:
            self._hash.update(kind.encode())
            self._kind = kind
        self._hash.update(_raw(part))

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _is_text(part: Tensor | Array) -> bool:
    return isinstance(part, np.ndarray) and part.dtype.kind in "OU"


def _raw(part: Tensor | Array) -> bytes | memoryview:
    if isinstance(part, Tensor):
        flat = part.detach().cpu().contiguous().reshape(-1)
        return flat.view(torch.uint8).numpy().data
    if _is_text(part):
        return "\0".join(map(str, part.reshape(-1).tolist())).encode() + b"\0"
    return np.ascontiguousarray(part).data


def batch_of(
    inputs: Any,
    labels: Mapping[str, Any],
    groups: Any = None,
    mask: Any = None,
    start: int = 0,
) -> SampleBatch:
    """One batch out of loose parts: inputs as one tensor, several, or a mapping of them."""
    named, several = (inputs, ()) if isinstance(inputs, Mapping) else ({}, inputs)
    several = several if isinstance(several, (tuple, list)) else (several,)
    kwargs = {name: _tensor(x, name) for name, x in named.items()}
    args = tuple(_tensor(x, str(i)) for i, x in enumerate(several))
    sizes = [len(x) for x in (*args, *kwargs.values())]
    if not sizes:
        raise ValueError("there is no input tensor")
    check_names(labels)
    shown = kwargs.get("attention_mask") if mask is None else _tensor(mask, "mask")
    return SampleBatch(
        args,
        kwargs,
        start,
        start + sizes[0],
        None if shown is None else shown.bool(),
        {name: _array(x) for name, x in labels.items()},
        None if groups is None else _array(groups).astype(str),
    )


def _tensor(value: Any, name: str) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
    if tensor.ndim == 0:
        raise ValueError(f"input {name!r} is one number; its first dimension counts samples")
    return tensor


def _array(value: Any) -> Array:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        # numpy has no bfloat16.
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return np.asarray(value)
