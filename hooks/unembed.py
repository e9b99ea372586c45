"""The model's own head on any residual stream: final norm, unembedding, soft cap, scale, bias."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.locating.example import example
from layerscope.hooks.places import module_at
from layerscope.hooks.replaying.recording import logits_of, passing, run_once, stream_sites
from layerscope.hooks.replaying.rewire import alone
from layerscope.hooks.replaying.trust import differs

BUDGET = 2**28
"""Bytes of logits that are made at once, by default."""


class Unembed:
    """``decode = Unembed(model)``; ``decode(stream)`` are the logits that the model would give.

    The model itself is run on them, without its blocks, so whatever it does after the last block is
    done: nothing is assumed about its head.

    Raises:
        LookupError: no stack of blocks, or no logits.
        ValueError: what follows the blocks needs more than the residual stream.
    """

    def __init__(self, model: nn.Module, *, budget: int = BUDGET) -> None:
        found = anatomy(model)
        if "logits" not in found.sites:
            raise LookupError(
                f"{type(model).__name__} has no logits: load it with its head, for instance by "
                "AutoModelForCausalLM"
            )
        self._pass = passing(model, _smallest(model))
        self._norm = None if found.norm is None else module_at(model, found.norm)
        self._budget = budget
        self._require_right(model)

    def __call__(self, stream: Tensor) -> Tensor:
        """Logits [..., vocab] of a residual stream [..., d]. Differentiable.

        The stream is what leaves the last block, before the final norm; that of earlier blocks
        (the logit lens, nostalgebraist 2020) and sums of sublayer outputs go through alike.
        """
        flat = stream.reshape(-1, 1, stream.shape[-1])
        size = max(1, self._budget // (4 * self._vocab))
        pieces = [self._logits(piece) for piece in flat.split(size)]
        return torch.cat(pieces).reshape(*stream.shape[:-1], self._vocab)

    def norm(self, stream: Tensor) -> Tensor:
        """The final norm alone, [..., d]; the stream itself where the model has none."""
        return stream if self._norm is None else self._norm(stream)

    def _require_right(self, model: nn.Module) -> None:
        """Decode the last stream of a small pass, and compare with the model's answer."""
        last = stream_sites(self._pass.anatomy)[-1]
        with alone:
            logits, seen = run_once(self._pass, [last], grad=False)
        self._vocab = logits.shape[-1]
        if logits.shape[:-1] != seen[last].shape[:-1]:
            return  # one answer for several positions: a classifier that chooses or averages them
        with torch.no_grad():
            wrong = differs(self(seen[last]), logits)
        if wrong:
            raise ValueError(
                f"the head of {type(model).__name__} cannot be run alone: what it gives for the "
                f"last residual stream {wrong}"
            )

    def _logits(self, stream: Tensor) -> Tensor:
        with alone:
            output, _ = self._pass.perform(lambda stage: stream)
        return logits_of(self._pass, output)


def _smallest(model: nn.Module) -> dict[str, Any]:
    """An input of one position, where the model reads tokens; some shape the stream by it."""
    given = example(model) or {}
    if "input_ids" not in given:
        return given
    return {k: v[:1, :1] if isinstance(v, Tensor) else v for k, v in given.items()}
