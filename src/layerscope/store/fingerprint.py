"""The exact content of a weight in a few characters, at the speed of memory, on any device.

The raw bits of a tensor are summed as 64-bit integers over rows and over columns of 4096. Integer
sums do not depend on the order of addition, so every device and every number of threads gives the
same ones. Changing any single value moves one row and one column by less than the 2^64 at which
sums wrap, so it cannot go unnoticed; exchanging rows or columns moves the sums of the other kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_COLUMNS = 4096


def fingerprints(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Name and ``"dtype shape hash"`` of every parameter and buffer.

    Raises:
        ValueError: a weight is not there: on the meta device, or still to be initialised.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise ValueError(f"{name} is not initialised yet; run the model once before extracting")
        there = _offloaded(model, name) if tensor.is_meta else tensor
        for suffix, inner in _unwrapped(there):
            yield f"{name}{suffix}", fingerprint(inner)


def _offloaded(model: nn.Module, name: str) -> Tensor:
    """A weight that accelerate keeps on disk or in host memory and lends to each forward pass."""
    path, _, leaf = name.rpartition(".")
    hook = getattr(model.get_submodule(path), "_hf_hook", None)
    weights: Mapping[str, Tensor] | None = getattr(hook, "weights_map", None)
    if weights is None:
        raise ValueError(
            f"{name} is on the meta device: the weights are not loaded, so the model has no "
            "identity; load them before extracting"
        )
    return weights[leaf]


def _unwrapped(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The plain tensors inside: quantised, sparse and distributed tensors wrap several."""
    if tensor.is_quantized:
        yield "", tensor.int_repr()
        if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            yield ".scale", torch.tensor([tensor.q_scale(), tensor.q_zero_point()]).double()
        else:
            yield ".scales", tensor.q_per_channel_scales()
            yield ".zero_points", tensor.q_per_channel_zero_points()
    elif tensor.is_sparse:
        entries = tensor.detach().coalesce()
        yield ".indices", entries.indices()
        yield ".values", entries.values()
    elif hasattr(tensor, "__tensor_flatten__"):
        for inner in tensor.__tensor_flatten__()[0]:
            yield from ((f".{inner}{s}", t) for s, t in _unwrapped(getattr(tensor, inner)))
    else:
        yield "", tensor


@torch.no_grad()
def fingerprint(tensor: Tensor) -> str:
    """Dtype, shape and 16 hex digits over the exact content of one plain tensor."""
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    content = hashlib.sha256(b"".join(_sums(tensor))).hexdigest()[:16]
    return f"{str(tensor.dtype).removeprefix('torch.')} {shape} {content}"


def _sums(tensor: Tensor) -> Iterator[bytes]:
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    bits = flat.view(torch.uint8)
    if bits.storage_offset() % 8:  # a window into a larger buffer
        bits = bits.clone()
    whole = bits.numel() - bits.numel() % 8
    words = bits[:whole].view(torch.int64)
    square = words[: words.numel() - words.numel() % _COLUMNS].view(-1, _COLUMNS)
    for part in (square.sum(0), square.sum(1), words[square.numel() :], bits[whole:]):
        yield part.cpu().numpy().tobytes()
