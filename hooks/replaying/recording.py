"""One remembered baseline pass, and the means to go on from any of its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.anatomy import Anatomy, anatomy
from layerscope.hooks.capture import Capture, capture
from layerscope.hooks.places import Tap, pick, put
from layerscope.hooks.quiet import evaluating
from layerscope.hooks.replaying.inputs import Inputs, accepted, generates, inputs_of
from layerscope.hooks.replaying.returns import Returns
from layerscope.hooks.replaying.rewire import Call, taken_out
from layerscope.hooks.replaying.stage import Axes, Stage, axes_of, fresh_slot
from layerscope.hooks.sites import require_module

Play = Callable[[Stage], Tensor | None]


class Enough(Exception):
    """Leaves the model's call when nothing after the blocks is wanted."""


@dataclass(eq=False)
class Pass:
    """A model, one batch, and what is known about running its blocks on it."""

    model: nn.Module
    anatomy: Anatomy
    inputs: Inputs
    returns: dict[int, Any] = field(default_factory=dict)
    """The form of what each block returns, for those that return more than a tensor."""
    cache: Any = None
    """Keys and values of all positions, where they can be cut at any position."""
    _axes: dict[int, Axes] = field(default_factory=dict)

    @property
    def blocks(self) -> int:
        return len(self.anatomy.blocks)

    @property
    def positions(self) -> int:
        first = self.inputs.first
        return first.shape[1] if first.ndim > 1 else 1

    def perform(
        self,
        play: Play,
        *,
        start: int = 0,
        last: int | None = None,
        caching: bool = False,
        around: Sequence[Any] = (),
    ) -> tuple[Any, Stage]:
        """Call the model with ``play(stage)`` in place of its blocks.

        Args:
            play: Given the stage, returns what goes on to the final norm; None leaves the model.
            start: First computed position; those before come from the cache.
            last: Logits of this many last positions only, where the model can limit them.
            caching: Give blocks cache slots although no position comes from one.
            around: Context managers to enter around the call.

        Returns:
            The model's output (None where it was left), and the stage with its counts.
        """

        axes = self._axes_of(start, caching)

        def stage(calls: dict[int, Call]) -> Stage:
            computed = self.positions - start
            return Stage(
                calls=calls,
                prompts=self.inputs.prompts,
                positions=computed,
                share=computed / self.positions,
                axes=axes,
                slots=self.slots(start) if start or caching else None,
                keep_slots=caching,
            )

        def call() -> Any:
            return self._call(self.inputs.cut(start), start, last, caching)

        return self._conduct(play, stage, call, around)

    def step(self, play: Play, arguments: dict[str, Any], layers: Sequence[Any]) -> Any:
        """The model's output for one more position of every prompt.

        Args:
            play: Runs the blocks; it gives each visit its own cache slot.
            arguments: Of the model's call.
            layers: Cache layers of the length so far; the model asks them for positions and masks.
        """
        cache = self.cache_of(layers)

        def stage(calls: dict[int, Call]) -> Stage:
            return Stage(calls, self.inputs.prompts, 1, 1 / self.positions, {})

        def call() -> Any:
            return self.model(**arguments, past_key_values=cache, use_cache=True)

        output, _ = self._conduct(play, stage, call)
        return output

    def _conduct(
        self,
        play: Play,
        make: Callable[[dict[int, Call]], Stage],
        call_model: Callable[[], Any],
        around: Sequence[Any] = (),
    ) -> tuple[Any, Stage]:
        calls: dict[int, Call] = {}
        stages: list[Stage] = []

        def arrive(call: Call) -> Any:
            calls[call.index] = call
            if call.index + 1 < self.blocks:
                return self._handed_on(call, call.stream)
            stages.append(make(calls))
            final = play(stages[0])
            if final is None:
                raise Enough
            ran = stages[0].last
            return self._handed_on(call, final) if ran is None else call.answer(ran, final)

        output = None
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.model))
            for manager in around:  # first: they look for their sites in the model as it is
                stack.enter_context(manager)
            stack.enter_context(taken_out(self.model, self.anatomy, arrive))
            try:
                output = call_model()
            except Enough:
                output = None
        return output, stages[0]

    def cache_of(self, layers: Sequence[Any]) -> Any:
        """A cache of the recorded kind with these layers."""
        cache = type(self.cache)(config=self.model.config)
        cache.layers = list(layers)
        return cache

    def slots(self, start: int) -> Callable[[int, Tensor], Any]:
        """Cache slots with the keys and values before `start`."""

        def slot(index: int, rows: Tensor) -> Any:
            return fresh_slot(self.cache.layers[index], start, rows)

        return slot

    def _call(self, inputs: Inputs, start: int, last: int | None, caching: bool) -> Any:
        takes = accepted(self.model)
        more: dict[str, Any] = {}
        if "use_cache" in takes:
            more["use_cache"] = caching or start > 0
        if start or caching:
            # Of a cache that blocks do not read, only its length counts: any prompt's will do.
            everyone = torch.arange(inputs.prompts) % len(self.cache.layers[0].keys)
            layers = [fresh_slot(layer, start, everyone) for layer in self.cache.layers]
            more["past_key_values"] = self.cache_of(layers)
        if last is not None and "logits_to_keep" in takes:
            more["logits_to_keep"] = last
        inputs = inputs.given(**more)
        return self.model(*inputs.args, **inputs.kwargs)

    def _axes_of(self, start: int, caching: bool) -> Axes:
        """Which arguments of blocks have an axis of prompts; from two calls that run no block.

        Found before anything is attached for the pass itself, whose hooks must not see them; and
        for each start, because a model may leave out the mask when it computes one position.
        """
        if start not in self._axes:
            rows = torch.arange(self.inputs.prompts)
            once, twice = (self._rehearsed(r, start, caching) for r in (rows, rows.repeat(2)))
            self._axes[start] = axes_of(once, twice)
        return self._axes[start]

    def _rehearsed(self, rows: Tensor, start: int, caching: bool) -> dict[int, Call]:
        """How the blocks are called for some prompts."""
        calls: dict[int, Call] = {}

        def arrive(call: Call) -> Any:
            calls[call.index] = call
            if call.index + 1 == self.blocks:
                raise Enough
            return self._handed_on(call, call.stream)

        chosen = replace(self, inputs=self.inputs.of(rows))
        with (
            evaluating(self.model),
            torch.no_grad(),
            taken_out(self.model, self.anatomy, arrive),
            suppress(Enough),
        ):
            chosen._call(chosen.inputs.cut(start), start, None, caching)
        return calls

    def _handed_on(self, call: Call, stream: Tensor) -> Any:
        known = self.returns.get(call.index)
        return stream if known is None else put(known, call.exit.item, stream)


def stream_sites(anatomy: Anatomy) -> list[str]:
    """A site for each residual index: what enters block 0, and what leaves each block."""
    first = "embed" if "embed" in anatomy.sites else "blocks.0.resid_pre"
    return [first, *(f"blocks.{block.index}.resid_post" for block in anatomy.blocks)]


def passing(model: nn.Module, batch: Any) -> Pass:
    """`batch` on `model`, before anything has run.

    Raises:
        LookupError: the model has no stack of blocks.
    """
    require_module(model)
    inputs = inputs_of(model, batch)
    found = anatomy(model)
    if not found.blocks:
        example = inputs.args if inputs.args else inputs.kwargs
        found = anatomy(model, example=example)
    if not found.blocks:
        raise LookupError(
            f"no stack of blocks was found in {type(model).__name__}, so there is no layer to go on "
            "from; edit(model, {path: change}) works at any module path"
        )
    return Pass(model, found, inputs)


def run_once(work: Pass, sites: Sequence[str], *, grad: bool) -> tuple[Tensor, Capture]:
    """The untouched pass: logits, and `sites`; fills in the cache and what blocks return."""
    model, returns = work.model, Returns(work.model, work.anatomy)
    cache = _recordable_cache(work)
    more = {"past_key_values": cache, "use_cache": True} if cache is not None else {}
    inputs = work.inputs.given(**more)
    with (
        evaluating(model),
        torch.set_grad_enabled(grad),
        returns.watching(),
        capture(model, sites, grad=grad) as seen,
    ):
        output = model(*inputs.args, **inputs.kwargs)
    work.returns = returns.found
    work.cache = cache if cache is not None and _cuttable(cache, work) else None
    return logits_of(work, output), seen


def logits_of(work: Pass, output: Any) -> Tensor:
    """The model's logits, or the first tensor of a model that has none."""
    place = work.anatomy.sites.get("logits")
    item = place.item if isinstance(place, Tap) and place.path == "" else None
    return pick(output, item)


def _recordable_cache(work: Pass) -> Any:
    """A cache that forgets nothing, where the model takes one and positions can be cut."""
    config = getattr(work.model, "config", None)
    if config is None or "past_key_values" not in accepted(work.model):
        return None
    if getattr(config, "is_encoder_decoder", False) or not work.inputs.cuttable:
        return None
    if not generates(work.model):
        return None
    from transformers import DynamicCache

    cache = DynamicCache(config=config)
    for layer in cache.layers:
        if getattr(layer, "is_sliding", False):
            layer.activate_past_recording()
    return cache


def _cuttable(cache: Any, work: Pass) -> bool:
    layers = cache.layers
    return len(layers) == work.blocks and all(
        getattr(x, "is_croppable", False)
        and x.is_initialized
        and x.get_seq_length() == work.positions == x.keys.shape[-2]
        for x in layers
    )
