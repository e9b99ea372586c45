"""How much a what-if changes later blocks and the output, token by token, summed by text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from layerscope.analyses.material.texts import LOGITS
from layerscope.analyses.skipping.skip_lanes import Lane
from layerscope.hooks.unembed import Unembed

SMALLEST = 1e-6
"""Contributions are not divided by less than this."""


class Later:
    """Change of what each block adds, relative to what it added: ``|c - c'| / |c|`` at each token.

    Args:
        wanted: The what-ifs.
        blocks: How many blocks there are.
        ids: ``[texts, positions]``.
        own: Whether a lane's own block adds nothing at all in it, as where it is skipped.
    """

    def __init__(self, wanted: Sequence[Lane], blocks: int, ids: Tensor, *, own: bool) -> None:
        self.wanted, self.own = wanted, own
        self.texts, self.length = ids.shape
        shape = (len(wanted), blocks, self.texts)
        self.sums = torch.zeros(shape, dtype=torch.float64)
        self.most = torch.zeros(shape, dtype=torch.float64)
        self.seen = torch.zeros(shape[:2], dtype=torch.bool)

    def __call__(self, block: int, before: Tensor, after: Tensor, lane: Tensor) -> None:
        """Streams around a block; rows of one lane are its texts in order."""
        wide = torch.promote_types(before.dtype, torch.float32)
        added = (after.to(wide) - before.to(wide)).unflatten(0, (-1, self.texts))
        size = added[0].norm(dim=-1)
        lanes = lane[self.texts :: self.texts].tolist()
        if not bool(size.isfinite().all()):
            raise ValueError(
                f"blocks.{block}.resid_post has NaN or infinite activations; load the model in "
                "float32 or bfloat16"
            )
        if lanes:
            change = (added[1:] - added[0]).norm(dim=-1) / size.clamp_min(SMALLEST)
            self._add(block, lanes, change)
        # A skipped block does not run: all of its own contribution is gone.
        own = [n for n, x in enumerate(self.wanted) if x.block == block and n not in lanes]
        if own and self.own:
            gone = (size / size.clamp_min(SMALLEST)).expand(len(own), -1, -1)
            self._add(block, own, gone)

    def _add(self, block: int, lanes: Sequence[int], change: Tensor) -> None:
        """`change` [lanes, texts, positions], where effects are read and something was changed."""
        read = torch.stack([self._read(self.wanted[n], block) for n in lanes])[:, None]
        kept = change.double().cpu() * read
        self.sums[lanes, block] = kept.sum(-1)
        self.most[lanes, block] = kept.amax(-1)
        self.seen[lanes, block] = True

    def _read(self, lane: Lane, block: int) -> Tensor:
        positions = torch.arange(self.length)
        read = positions >= lane.read
        return read & (positions < lane.stop) if block == lane.block else read


def counts(wanted: Sequence[Lane], length: int) -> Tensor:
    """Tokens at which each lane's effects are read: ``[lanes]``."""
    return torch.tensor([max(0, length - lane.read) for lane in wanted], dtype=torch.float64)


class Output:
    """Change of the next-token probabilities.

    ``output``: length of the difference of the two probability vectors, at most the root of 2.
    ``divergence``: KL(unchanged || changed) in nats. ``loss``: change of the loss on the text's own
    next token, in nats; the last position has none.
    """

    def __init__(self, decode: Unembed, base: Tensor, ids: Tensor) -> None:
        self.decode, self.ids = decode, ids
        self.base = _log_probabilities(decode(base))
        self.probabilities = self.base.exp()
        self.loss = self._loss(self.base)

    @torch.no_grad()
    def of(self, streams: Tensor, wanted: Sequence[Lane]) -> dict[str, tuple[Tensor, Tensor]]:
        """Sum and largest size over the tokens read, ``[lanes, texts]`` each, for every measure.

        Args:
            streams: ``[lanes, texts, positions, d]``.
            wanted: The lanes.
        """
        size = max(1, LOGITS // (16 * self.base.numel()))
        found: list[dict[str, Tensor]] = []
        for part in streams.split(size):
            # One lane at a time: what is compared then stays near the processor.
            found += [self._values(logits) for logits in self.decode(part)]
        read = torch.tensor([lane.read for lane in wanted])
        return {name: _reduced(torch.stack([x[name] for x in found]), read) for name in found[0]}

    def _values(self, logits: Tensor) -> dict[str, Tensor]:
        changed = _log_probabilities(logits)
        loss = self._loss(changed) - self.loss
        divergence = torch.linalg.vecdot(self.probabilities, self.base - changed)
        distance = changed.exp_().sub_(self.probabilities).norm(dim=-1)
        return {"output": distance, "divergence": divergence.clamp_min(0), "loss": loss}

    def _loss(self, log_probabilities: Tensor) -> Tensor:
        following = self.ids[:, 1:, None].to(log_probabilities.device)
        return -log_probabilities[:, :-1].gather(-1, following)[..., 0]


def _log_probabilities(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def _reduced(values: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
    """Over positions from each lane's `read` on: ``[lanes, texts, positions]`` to ``[lanes, texts]``."""
    positions = torch.arange(values.shape[-1])
    kept = values.double().cpu() * (positions >= read[:, None])[:, None]
    return kept.sum(-1), kept.abs().amax(-1)
