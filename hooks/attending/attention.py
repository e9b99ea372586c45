"""`q k v pattern z`: overhearing attention without forcing the eager implementation.

Three ways a model may compute attention, in the order they are recognised:

1. Through transformers' attention interface (`interface.py`).
2. By calling `scaled_dot_product_attention` or `nn.MultiheadAttention` itself (`inline.py`).
3. Written out: a softmax between two matrix products (`inline.py`).

The model's own function always computes the output, so the model gives the same bits as without
capture. A fused kernel never makes the probabilities; where they are asked for, they are computed
beside it (`pattern.py`) and must reproduce the kernel's output, else there is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from layerscope.hooks.attending.participant import Participant
from layerscope.hooks.listening.live import Live, Notes
from layerscope.hooks.listening.passes import ForwardPass
from layerscope.hooks.places import AttentionTap


class AttentionListener(Participant):
    """Hears the attention computations of chosen modules."""

    writes = False
    done = ("heard", "captured")

    def __init__(
        self,
        model: nn.Module,
        taps: Mapping[str, AttentionTap],
        arrive: Callable[[str, Live], None],
        passing: ForwardPass,
        notes: Notes,
        *,
        differentiable: bool,
    ) -> None:
        super().__init__(model, taps, passing, notes)
        self._arrive = arrive
        self.differentiable = differentiable

    def meet(self, site: str, live: Live) -> Tensor | None:
        """Tell of one part."""
        self._arrive(site, live)
        return None

    def cuts(self, site: str, shape: tuple[int, int, int, int]) -> Tensor | None:
        """A listener cuts nothing."""
        return None

    def overheard(self, path: str, parts: Mapping[str, Live]) -> None:
        """Tell what is wanted of a computation that was found written out."""
        sites = self.next(path, set(parts))
        for part, live in parts.items():
            if part in sites:
                self._arrive(sites[part], live)
