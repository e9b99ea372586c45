"""Where in the whole sequence a forward pass begins, and how many positions it has."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

IDS = ("decoder_input_ids", "decoder_inputs_embeds", "input_ids", "inputs_embeds")
RECURRENT = ("cache_params", "state")
"""What models without attention call their memory of earlier positions."""
REMEMBERED = 64


class Offsets:
    """Counts positions over the passes of a generation.

    The cache a model is called with says how many positions it holds. Recurrent models' caches do
    not: for these the positions are counted as they are handed from one pass to the next.
    """

    def __init__(self) -> None:
        self.offset: int | None = 0
        """Absolute position of the first one in this pass; None: it continues an unknown cache."""
        self.length: int | None = None
        """Positions of this pass, as the model was given them."""
        self.prompt: int | None = None
        """Positions of the prompt: of the latest pass that began at 0 and continued none before."""
        self.real: Mapping[str, Tensor] = {}
        self._prompt: Tensor | None = None
        self._memory: list[Any] = []
        # The objects are held, so that no other one can take over an id.
        self._counted: OrderedDict[int, tuple[Any, int]] = OrderedDict()

    def begin(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A pass begins, with these arguments of its outermost module."""
        given, before = _given(args, kwargs), self.length
        self.length = None if given is None else int(given.shape[1])
        self.real = {
            name: x.bool()
            for name, x in kwargs.items()
            if name.endswith("attention_mask") and isinstance(x, Tensor) and x.ndim == 2
        }
        self._memory = _memories(args, kwargs)
        self.offset = self._offset()
        if self.offset == 0 and not self._grown(given, before):
            self.prompt, self._prompt = self.length, given

    def end(self, output: Any) -> None:
        """A pass ended: its memory now holds the positions of this pass as well."""
        if self.offset is None or self.length is None:
            return
        held = dict(output.items()) if isinstance(output, Mapping) else {}
        for memory in [*self._memory, *(held.get(name) for name in RECURRENT)]:
            if memory is not None and _own_count(memory) is None:
                self._counted[id(memory)] = (memory, self.offset + self.length)
                self._counted.move_to_end(id(memory))
        while len(self._counted) > REMEMBERED:
            self._counted.popitem(last=False)

    def forget(self) -> None:
        """Let go of the caches."""
        self._counted.clear()
        self._memory = []
        self._prompt = None
        self.real = {}

    def padding(self, site: str, rows: int, positions: int) -> Tensor | None:
        """Which positions of this pass are not padding [rows, positions]; None: not known."""
        decoder = "decoder_attention_mask" in self.real and not site.startswith("encoder.")
        mask = self.real.get("decoder_attention_mask" if decoder else "attention_mask")
        if mask is None or mask.shape[0] != rows or mask.shape[1] < positions:
            return None
        return mask[:, -positions:]

    def _grown(self, given: Tensor | None, before: int | None) -> bool:
        """Whether this pass is the one before and a token more, as `generate` without a cache runs.

        Only the prompt is compared: beams change places in what follows it.
        """
        held = self._prompt
        if given is None or held is None or before is None or given.shape[1] != before + 1:
            return False
        return given.dtype == held.dtype and torch.equal(given[:, : held.shape[1]], held)

    def _offset(self) -> int | None:
        for memory in self._memory:
            count = _own_count(memory)
            if count is None and id(memory) in self._counted:
                count = self._counted[id(memory)][1]
            if count is not None:
                return count
            return 0 if _is_fresh(memory) else None
        return 0


def _memories(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """What among the arguments holds earlier positions."""
    known = (*RECURRENT, "past_key_values")
    named = [x for name, x in kwargs.items() if x is not None and (name in known or _is_cache(x))]
    return named + [x for x in args if _is_cache(x)]


def _is_cache(x: Any) -> bool:
    return hasattr(x, "get_seq_length")


def _own_count(memory: Any) -> int | None:
    """How many positions a cache says that it holds."""
    if _is_cache(memory):
        try:
            return int(memory.get_seq_length())
        except (ValueError, NotImplementedError):  # recurrent layers only
            return None
    if (
        isinstance(memory, tuple) and memory and isinstance(memory[0], tuple)
    ):  # the form before caches
        return int(memory[0][0].shape[-2])
    return None


def _is_fresh(memory: Any) -> bool:
    """Whether a recurrent cache has seen nothing yet."""
    layers = getattr(memory, "layers", None)
    if layers is None:
        return False
    used = ("is_conv_states_initialized", "is_recurrent_states_initialized", "is_initialized")
    return not any(_any(getattr(layer, name, False)) for layer in layers for name in used)


def _any(flag: Any) -> bool:
    return any(flag.values()) if isinstance(flag, dict) else bool(flag)


def _given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The tokens, or vectors, that a model is given [rows, positions, ...]; None for images, sound."""
    named = next((kwargs[name] for name in IDS if kwargs.get(name) is not None), None)
    first = named
    if first is None:
        first = next((x for x in args if isinstance(x, Tensor)), None)
    if first is None or first.ndim != (3 if first.is_floating_point() else 2):
        return None
    found: Tensor = first
    return found
