"""The verdicts: what must hold by numbers for a located structure to be believed."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from layerscope.hooks.anatomy import Check
from layerscope.hooks.locating.chain import Chain
from layerscope.hooks.locating.head import Head
from layerscope.hooks.locating.layout import Layout, Move
from layerscope.hooks.locating.observe import Event, Observation, Seen
from layerscope.hooks.locating.tail import Tail

FINITE = "all numbers are finite"
STREAM = "resid_post of each block is resid_pre of the next"
SUMS = "resid_pre + attn_out + mlp_out = resid_post"
RETURNS = "blocks return the stream"
UNEMBED = "the unembedding reads the final norm"
LOGITS = "logits follow from the unembedding"
NAMES = (FINITE, STREAM, SUMS, RETURNS, UNEMBED, LOGITS)


def finite(record: Observation, model: nn.Module) -> Check:
    """Names the first module whose output is not finite, and parameters that are not."""
    outputs = (s for e in record.events for s in e.outputs)
    bad = (s for s in outputs if not record.values[s.value].finite)
    first = min(bad, key=lambda s: s.order, default=None)
    if first is None:
        return Check(FINITE, True, None, f"{len(record.values)} distinct tensors seen")
    broken = [name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())]
    more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
    cause = f"; not finite themselves: {', '.join(broken[:3])}{more}" if broken else ""
    where = first.path or "the model"
    return Check(FINITE, False, None, f"NaN or infinity first in the output of {where}{cause}")


def stack(record: Observation, chain: Chain, layouts: list[Layout], of: str) -> list[Check]:
    """The checks of one stack of blocks; `of` is put before their names."""
    return [
        _stream(record, chain, of + STREAM),
        _sums(chain, layouts, of + SUMS),
        _returns(layouts, of + RETURNS),
    ]


def _stream(record: Observation, chain: Chain, name: str) -> Check:
    """Each block receives what the one before returned."""
    if len(chain.entries) < 2:
        return Check(name, None, None, "one block only")
    joints = list(zip(chain.exits, chain.entries[1:], strict=False))
    broken = [i for i, (out, into) in enumerate(joints) if out.value != into.value]
    if not broken:
        return Check(name, True, 0.0, f"{len(joints)} joint{'s' * (len(joints) > 1)}, bit for bit")
    error = max(_gap(record, *joints[i]) for i in broken)
    return Check(name, False, error, f"changed after blocks {_listed(broken)}")


def _gap(record: Observation, out: Seen, into: Seen) -> float:
    a, b = record.values[out.value].sample, record.values[into.value].sample
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).norm() / b.norm().clamp_min(1e-30))


def _sums(chain: Chain, layouts: list[Layout], name: str) -> Check:
    """What the sublayers add is what the stream gains."""
    lost = [i for i, layout in enumerate(layouts) if layout.moves is None]
    unread = [i for i in lost if not layouts[i].finite]
    if unread:
        return Check(name, None, None, f"blocks {_listed(unread)} hold numbers that are not finite")
    if len(lost) == len(layouts) and not chain.stack.declared:
        return Check(name, None, None, "no residual stream: the blocks transform rather than add")
    if lost:
        why = f"no sum of observed tensors explains blocks {_listed(lost)}"
        shape = layouts[lost[0]].entry.shape
        several = f"; the stream has shape {list(shape)}: more than one stream" * (len(shape) > 3)
        return Check(name, False, None, why + several)
    moves = [move for layout in layouts for move in layout.moves or ()]
    error = max((move.step.error for move in moves), default=0.0)
    forms = Counter(_formula(layout) for layout in layouts)
    counted = "; ".join(f"blocks {_listed(_at(layouts, form))}: {form}" for form in forms)
    return Check(name, True, error, counted)


def _at(layouts: list[Layout], form: str) -> list[int]:
    return [i for i, layout in enumerate(layouts) if _formula(layout) == form]


def _formula(layout: Layout) -> str:
    if not layout.moves:
        return "adds nothing"
    roles = [kinds.split(" | ") for kinds in layout.kind.split(" + ")]
    return ", then ".join(map(_term, layout.moves, roles))


def _term(move: Move, roles: list[str]) -> str:
    step = move.step
    if step.form == "featured":
        total = " + ".join(f"gain * {x}" for x in ("stream", *roles)) + " + offset, by feature"
    else:
        scale = "" if step.scale == 1.0 else f"{step.scale:.4g} * "
        weights = ("" if w == 1.0 else f"{w:.4g} * " for w in step.weights)
        total = " + ".join([f"{scale}stream", *map("".join, zip(weights, roles, strict=True))])
    if move.normed_before:
        total = total.replace("stream", "norm(stream)", 1)
    return f"norm({total})" if move.normed_after else total


def _returns(layouts: list[Layout], name: str) -> Check:
    """What a block's `forward` gives back, and where the stream is in it."""
    kinds = Counter(layout.returns for layout in layouts)
    detail = ", ".join(f"{n} x {kind}" for kind, n in kinds.items())
    if any(layout.exit.shape != layout.entry.shape for layout in layouts):
        return Check(name, None, None, f"{detail}; the shape changes from block to block")
    return Check(name, True, None, detail)


def unembedding(head: Head | None, norm: Event | None) -> Check:
    """The unembedding receives the final norm, or what is known to lie between."""
    if head is None:
        read = "no unembedding in this model"
        return Check(UNEMBED, None, None, f"{read}; final norm {norm.path}" if norm else read)
    return Check(UNEMBED, head.proven, None, f"{head.event.path} receives {head.route}")


def logits(tail: Tail | None) -> Check:
    """The logits are the unembedding's output, or a recognised function of it."""
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
