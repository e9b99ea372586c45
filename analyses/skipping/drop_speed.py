"""How much faster a model is without some of its parts: measured beside the whole model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from layerscope.analyses.material.texts import Texts
from layerscope.analyses.skipping.drop_losses import changes_of
from layerscope.hooks.bypass import Part, bypassed
from layerscope.hooks.edits import edit
from layerscope.hooks.load import device_of
from layerscope.hooks.quiet import evaluating
from layerscope.hooks.replaying.inputs import accepted
from layerscope.hooks.replaying.trust import differs

TOKENS = 1024


class Speed:
    """Times forward passes over whole prompts, without a cache.

    Args:
        model: The model.
        texts: The longest of them is what is run, as often as makes about 1024 tokens.
        rounds: How often the whole and the reduced model are run, in turn.
    """

    def __init__(self, model: nn.Module, texts: Texts, rounds: int = 5) -> None:
        self.model, self.rounds = model, rounds
        longest = max(texts.prompts.ids, key=len)
        rows = max(1, TOKENS // len(longest))
        self.ids = longest.repeat(rows, 1).to(device_of(model))
        self.options = {"use_cache": False} if "use_cache" in accepted(model) else {}

    def ratio(self, dropped: Sequence[Part]) -> tuple[float, float, float]:
        """Time of the reduced model over that of the whole one: median, least, most of the rounds.

        Raises:
            LookupError: a part that cannot be left out, because it is no module of its own.
            ValueError: the model without the part computes something else than the edited one.
        """
        with evaluating(self.model), torch.inference_mode():
            self._require_same(dropped)
            ratios = []
            for number in range(self.rounds + 1):
                whole = self._seconds()
                with bypassed(self.model, dropped, self._small):
                    reduced = self._seconds()
                if number:  # the first round warms up
                    ratios.append(reduced / whole)
        return statistics.median(ratios), min(ratios), max(ratios)

    def _require_same(self, dropped: Sequence[Part]) -> None:
        """The model that is timed is the model whose loss was measured."""
        with edit(self.model, changes_of(dropped)):
            edited = self._run()
        with bypassed(self.model, dropped, self._small):
            reduced = self._run()
        wrong = differs(reduced, edited)
        if wrong:
            raise ValueError(f"left out for real, the answer {wrong}")

    def _run(self) -> Tensor:
        output: Tensor = self.model(input_ids=self.ids, **self.options).logits
        return output

    def _small(self) -> Tensor:
        output: Tensor = self.model(input_ids=self.ids[:1], **self.options).logits
        return output

    def _seconds(self) -> float:
        self._wait()
        start = time.perf_counter()
        self._run()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.ids.is_cuda:
            torch.cuda.synchronize()
