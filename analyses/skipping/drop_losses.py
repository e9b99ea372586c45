"""Loss of a model without some of its parts, on held-out texts; many such models at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.material.texts import Texts, tokens_at_once
from layerscope.analyses.skipping.skip_lanes import SITES
from layerscope.hooks import edits
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.bypass import Part
from layerscope.hooks.load import device_of
from layerscope.hooks.quiet import evaluating
from layerscope.hooks.replay import lanes
from layerscope.hooks.unembed import Unembed

STREAMS = 2**29
"""Bytes of streams that run at once."""


def changes_of(dropped: Sequence[Part]) -> dict[int | str, Any]:
    """The edits that leave these parts out."""
    return {f"blocks.{index}.{SITES[kind]}": edits.skip() for kind, index in dropped}


class Losses:
    """Next-token losses of reduced models on some texts.

    Args:
        model: A causal language model.
        texts: Each of two tokens or more.
    """

    def __init__(self, model: nn.Module, texts: Texts) -> None:
        self.model, self.texts = model, texts
        self.decode = Unembed(model)
        self.tokens = tokens_at_once(model)
        self.width = anatomy(model).width or 1
        self.evaluations = 0.0

    @property
    def counts(self) -> NDArray[np.float64]:
        """Predicted tokens of each group: ``[groups]``."""
        found = np.zeros(self.texts.n_groups)
        np.add.at(found, self.texts.groups, [len(x) - 1 for x in self.texts.prompts.ids])
        return found

    def of(self, sets: Sequence[Sequence[Part]], bar: Any = None) -> NDArray[np.float64]:
        """Sums of the loss in nats: ``[sets, groups]``. An empty set is the whole model."""
        sums = np.zeros((len(sets), self.texts.n_groups))
        wanted = [i for i, dropped in enumerate(sets) if dropped]
        with evaluating(self.model), torch.no_grad():
            for index, ids in self.texts.batches(self.tokens):
                ids = ids.to(device_of(self.model))
                groups = self.texts.groups[index]
                size = max(1, STREAMS // (32 * ids.numel() * self.width))
                parts = [wanted[i : i + size] for i in range(0, len(wanted), size)] or [[]]
                for part in parts:
                    base, reduced = self._batch(ids, [sets[i] for i in part])
                    for i, loss in zip(part, reduced, strict=True):
                        np.add.at(sums[i], groups, loss)
                for i in set(range(len(sets))) - set(wanted):
                    np.add.at(sums[i], groups, base)
                if bar is not None:
                    bar.update(len(index))
        return sums

    def _batch(
        self, ids: Tensor, sets: Sequence[Sequence[Part]]
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        """Summed loss of each text: of the whole model, and without each set."""
        changes = [changes_of(dropped) for dropped in sets] or [changes_of([("block", 0)])]
        out = lanes(self.model, {"input_ids": ids}, changes, last=0, keep=[-1], budget=2**62)
        self.evaluations += out.evaluations
        last = next(iter(out.base))
        rows = out[last].unflatten(0, (len(changes), len(ids)))[: len(sets)]
        return self._losses(out.base[last], ids), [self._losses(x, ids) for x in rows]

    def _losses(self, stream: Tensor, ids: Tensor) -> NDArray[np.float64]:
        logits = self.decode(stream[:, :-1])
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        following = ids[:, 1:].to(wide.device)
        loss = nn.functional.cross_entropy(wide.mT, following, reduction="none")
        found: NDArray[np.float64] = loss.double().sum(-1).cpu().numpy()
        return found
