"""Whether a model's blocks, run one by one, do what the model does: tried, not assumed."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.editing.writing import running
from layerscope.hooks.edits import active
from layerscope.hooks.replaying.inputs import Inputs
from layerscope.hooks.replaying.recording import Pass, logits_of, run_once, stream_sites
from layerscope.hooks.replaying.rewire import NotReplayable
from layerscope.hooks.replaying.stage import Stage

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest difference relative to the largest value; another order of summation stays far below."""
POSITIONS = 6

_tried: weakref.WeakKeyDictionary[nn.Module, tuple[str, dict[int, Any]]] = (
    weakref.WeakKeyDictionary()
)


def untrusted(work: Pass) -> str:
    """Why the blocks cannot be run one by one from a cold start; "" if they can.

    Tried once for each model, on a few positions of the first prompt.
    """
    if active(work.model):  # an edit may be for rows and positions that a short trial has not
        _refuse_rows(work.model)
        why, work.returns = _try(work, work.inputs)
        return why
    if work.model not in _tried:
        _tried[work.model] = _try(work, _few(work.inputs))
    why, work.returns = _tried[work.model]
    return why


def _refuse_rows(model: nn.Module) -> None:
    """Batches of what-ifs have other rows than the prompts that an edit around them speaks of."""
    for writer in running:
        if not writer.active_on(model):
            continue
        for site, changes in writer.changes.items():
            for change in changes:
                own = isinstance(change.at, Tensor) and change.at.ndim > 1
                if own or change.whole or change.rows is not None:
                    raise ValueError(
                        f"an edit is active that depends on the rows of the batch ({change!r} at "
                        f"{site!r}), but what-ifs are rows of their own; put the change into the "
                        "what-if instead"
                    )


def differs(ours: Tensor, recorded: Tensor) -> str:
    """How a stream that was run block by block differs from the recorded one; "" if it does not."""
    if ours.shape != recorded.shape:
        return f"has shape {list(ours.shape)}, the record {list(recorded.shape)}"
    size = recorded.detach().abs().amax().clamp_min(1e-6)
    error = float((ours - recorded).detach().abs().amax() / size)
    allowed = TOLERANCE.get(ours.dtype, 1e-4)
    return (
        "" if error <= allowed else f"differs from the record by {error:.2g} of its largest value"
    )


def _few(inputs: Inputs) -> Inputs:
    """The last positions of the first prompt, where positions can be cut."""
    first = inputs.of(torch.zeros(1, dtype=torch.long))
    if not inputs.cuttable:
        return first
    return replace(first, kwargs={k: v[:, -POSITIONS:] for k, v in first.kwargs.items()})


def _try(work: Pass, inputs: Inputs) -> tuple[str, dict[int, Any]]:
    tiny = Pass(work.model, work.anatomy, inputs)
    logits, _ = run_once(tiny, stream_sites(work.anatomy)[:1], grad=False)
    try:
        with torch.no_grad():
            output, _ = tiny.perform(_in_order)
    except NotReplayable as why:
        return str(why), {}
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        return f"a trial ended with {type(error).__name__}: {error}", {}
    return differs(logits_of(tiny, output), logits), tiny.returns


def _in_order(stage: Stage) -> Tensor:
    stream = stage.stream
    for index in range(stage.blocks):
        stream = stage.block(index, stream)
    return stream
