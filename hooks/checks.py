"""The verdicts: what must hold by numbers for a located structure to be believed."""

from __future__ import annotations

import itertools
from collections import Counter

import torch
from torch import nn

from layerscope.hooks.anatomy import Check
from layerscope.hooks.head import Head, Tail
from layerscope.hooks.layout import Layout, Move
from layerscope.hooks.observe import Observation, Seen

FINITE = "all numbers are finite"
STREAM = "resid_post of each block is resid_pre of the next"
SUMS = "resid_pre + attn_out + mlp_out = resid_post"
RETURNS = "blocks return the stream"
UNEMBED = "the unembedding reads the final norm"
LOGITS = "logits follow from the unembedding"
NAMES = (FINITE, STREAM, SUMS, RETURNS, UNEMBED, LOGITS)


def finite(record: Observation, model: nn.Module) -> Check:
    """Names the first module whose output is not finite, and parameters that are not."""
    bad = next(
        (s for e in record.events for s in e.outputs if not record.values[s.value].finite), None
    )
    first = min(
        (s for e in record.events for s in e.outputs if not record.values[s.value].finite),
        key=lambda s: s.order,
        default=bad,
    )
    if first is None:
        return Check(FINITE, True, None, f"{len(record.values)} distinct tensors seen")
    broken = [name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())]
    cause = f"; parameters that hold NaN or infinity: {', '.join(broken[:3])}" if broken else ""
    more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
    return Check(
        FINITE, False, None, f"first at the output of {first.path or 'the model'}{cause}{more}"
    )


def stream(record: Observation, exits: list[Seen], entries: list[Seen], of: str) -> Check:
    """Each block receives what the one before returned."""
    name = of + STREAM
    if len(entries) < 2:
        return Check(name, None, None, "one block only")
    broken = [
        i
        for i, (out, into) in enumerate(zip(exits, entries[1:], strict=False))
        if out.value != into.value
    ]
    if not broken:
        return Check(name, True, 0.0, f"{len(entries) - 1} joints, bit for bit")
    errors = [_gap(record, exits[i], entries[i + 1]) for i in broken]
    return Check(name, False, max(errors), f"changed between blocks {_listed(broken)} and the next")


def _gap(record: Observation, out: Seen, into: Seen) -> float:
    a, b = record.values[out.value], record.values[into.value]
    if a.numel != b.numel:
        return float("inf")
    return float((a.sample - b.sample).norm() / b.sample.norm().clamp_min(1e-30))


def sums(layouts: list[Layout], of: str) -> Check:
    """What the sublayers add is what the stream gains."""
    name = of + SUMS
    lost = [i for i, layout in enumerate(layouts) if layout.moves is None]
    if lost:
        why = "no sum of observed tensors explains blocks"
        return Check(name, False, None, f"{why} {_listed(lost)}")
    moves = [move for layout in layouts for move in layout.moves or ()]
    error = max((move.step.error for move in moves), default=0.0)
    forms = Counter(" then ".join(_form(m) for m in layout.moves or ()) for layout in layouts)
    return Check(name, True, error, "; ".join(f"{n} x ({form})" for form, n in forms.items()))


def _form(move: Move) -> str:
    scale = "" if move.step.scale == 1.0 else f"{move.step.scale:.4g} * "
    terms = [
        f"{'' if w == 1.0 else f'{w:.4g} * '}{part.tap.path.rpartition('.')[2]}"
        for w, part in zip(move.step.weights, move.parts, strict=True)
    ]
    total = " + ".join([f"{scale}stream", *terms])
    return f"norm({total})" if move.normed else total


def returns(layouts: list[Layout], of: str) -> Check:
    """What a block's `forward` gives back, and where the stream is in it."""
    kinds = Counter(returned(layout) for layout in layouts)
    detail = ", ".join(f"{n} x {kind}" for kind, n in kinds.items())
    same = all(x.exit.shape == x.entry.shape for x in layouts)
    return Check(of + RETURNS, True if same else None, None, detail)


def returned(layout: Layout) -> str:
    if layout.exit.item is None:
        return "tensor"
    return f"tuple, item {layout.exit.item}"


def unembedding(head: Head | None) -> Check:
    if head is None:
        return Check(UNEMBED, None, None, "no unembedding in this model")
    return Check(UNEMBED, head.proven, None, f"{head.event.path} receives {head.route}")


def logits(tail: Tail | None) -> Check:
    if tail is None:
        return Check(LOGITS, None, None, "no unembedding in this model")
    if tail.formula is None:
        return Check(LOGITS, False, tail.error, tail.detail)
    more = f"; {tail.detail}" if tail.detail else ""
    return Check(LOGITS, True, tail.error, f"logits = {tail.formula}{more}")


def _listed(numbers: list[int]) -> str:
    """3, 4, 5, 9 as "3-5, 9"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


_ = itertools
