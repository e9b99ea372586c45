"""`erasure`: until which layer does each token of the prompt matter?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from layerscope.analyses.depth.depth_scores import depth_score
from layerscope.analyses.depth.token_maps import (
    Case,
    cases,
    counted,
    lines_of,
    profile_lines,
    table_of,
)
from layerscope.analyses.material.decoders import require_decoder
from layerscope.analyses.material.texts import residual_sites, residuals
from layerscope.finding import Finding, Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.edits import set_to
from layerscope.hooks.prompts import Prompts, as_prompts
from layerscope.hooks.replay import Recording, record
from layerscope.wording import place

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

BUDGET = 2**28
"""Bytes of logits that are held at once."""
SMALL = 0.1
"""Share of the largest effect below which an erased token no longer matters."""


@dataclass(frozen=True)
class ErasureFinding(Finding):
    """What erasing one token's residual at one layer does to the prediction.

    Columns: ``scope`` (``token``: one cell; ``prompts``: the largest effect over the tokens before
    the last, mean over prompts), ``prompt``, ``text``, ``layer`` (-1 is `embed`, i after block i),
    ``site``, ``position``, ``token``, ``value`` (largest L2 distance between next-token
    distributions, 0 to the root of 2), ``drop`` (fall of the summed probability of the answer's
    tokens, where there is an answer), ``noise`` (``value`` of doing nothing), ``ci_low``, ``ci_high`` (over prompts),
    ``n``, ``unit``, ``estimator``.
    """

    question: ClassVar[str] = "Until which layer does each token of the prompt matter?"

    def answer(self) -> str:
        """Where the tokens before the last stop to matter."""
        curve = self.profile
        value = curve["value"].to_numpy()
        n = int(curve["n"].iloc[0])
        if not value.max() > 0:
            return f"Erasing tokens before the last changes nothing at any layer; {counted(n)}."
        last = curve[curve["value"] >= SMALL * value.max()].iloc[-1]
        return (
            f"Erasing a token before the last changes the prediction most at "
            f"{curve['site'].iloc[int(value.argmax())]} (distance {value.max():.2f}); the effect is "
            f"last above a tenth of that at {last['site']}, {last['layer'] + 1} of "
            f"{len(curve) - 1} blocks deep. Depth score {depth_score(value, first=-1):.1f}; {counted(n)}."
        )

    def gist(self) -> str:
        """In one sentence."""
        curve = self.profile
        value = curve["value"].to_numpy()
        if not value.max() > 0:
            return "Erasing tokens before the last changes the prediction at no layer."
        last = curve[curve["value"] >= SMALL * value.max()].iloc[-1]
        most = place(curve["site"].iloc[int(value.argmax())])
        if last["layer"] == curve["layer"].max():
            return f"Erasing earlier tokens matters most at {most} and still does at {place(last['site'])}, the last."
        after = "it" if place(last["site"]) == most else place(last["site"])
        return (
            f"Erasing earlier tokens changes the prediction most at {most}, and hardly after {after}: "
            "by less than a tenth of that."
        )

    @property
    def profile(self) -> pd.DataFrame:
        """The lines over prompts, by layer."""
        return self.table[self.table["scope"] == "prompts"]

    def figure(self) -> go.Figure:
        """Layer by token for one prompt; for several the curve over layers, with its interval."""
        from layerscope.analyses.depth.token_maps_figure import draw

        return draw(
            self.table, "effect of erasing the token (L2)", "erased in the state after block"
        )


def erasure(
    model: nn.Module,
    prompts: Any,
    answers: Sequence[Any] | None = None,
    *,
    by: str | Tensor = "mean",
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> ErasureFinding:
    """Replace one token's residual at one layer, for all layers and tokens, and see what changes.

    Only what can change is computed: blocks after the layer, positions from the token on.

    Args:
        model: A decoder.
        prompts: Texts, ids or a batch.
        answers: One for each prompt; their tokens are given to the model as it predicts the next.
            None reads the next-token distribution after the prompt.
        by: What is put there: ``"mean"`` of the prompts' residuals at that layer (without first
            tokens, whose size would drown the rest), ``"zero"``, or a tensor `[L + 1, d]`.
        tokenizer: Object or path; None takes the model's own.
        seed: Of the intervals.
        progress: Whether to show a bar.

    Returns:
        An `ErasureFinding`.

    Raises:
        ValueError: an unknown `by`, a tensor of another shape, prompts and answers that do not fit
            together, or an encoder.
    """
    from tqdm.auto import tqdm

    started = time.perf_counter()
    given = as_prompts(model, prompts, tokenizer)
    require_decoder(model, given)
    listed, notes = cases(model, given, answers)
    blocks = len(anatomy(model).blocks)
    instead = _instead(model, given, by, blocks)
    sites = residual_sites(blocks)
    lines: list[dict[str, Any]] = []
    profiles, evaluations, more = [], 0.0, list(notes)
    for case in tqdm(listed, desc="erasure", unit="prompt", disable=not progress):
        run = record(model, case.ids)
        found = _erased(run, case, instead, sites)
        evaluations += found.evaluations + blocks
        new = lines_of(given, case, sites, found.effect)
        lines += [line | extra for line, extra in zip(new, found.extras(), strict=True)]
        before = found.effect[:, : case.length - 1]
        profiles.append(before.amax(1) if before.shape[1] else found.effect.amax(1))
        more += [note for note in found.notes if note not in more]
    curve = profile_lines(sites, torch.stack(profiles).double().numpy(), seed)
    return ErasureFinding(
        table=table_of(lines + curve, "L2 distance of distributions", "largest over answer tokens"),
        provenance=Provenance(
            model=anatomy(model).model,
            data=f"{len(given)} prompts",
            parameters={
                "prompts": len(given),
                "by": by if isinstance(by, str) else "given",
                "answers": answers is not None,
                "layer_evaluations": round(evaluations, 3),
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*given.notes, *more),
    )


@dataclass(frozen=True, eq=False)
class _Erased:
    effect: Tensor
    """`[L + 1, p]`"""
    drop: Tensor | None
    """`[L + 1, p]`"""
    noise: float
    evaluations: float
    notes: tuple[str, ...]

    def extras(self) -> list[dict[str, float]]:
        """What stands beside each cell, layer by layer."""
        if self.drop is None:
            return [{"noise": self.noise}] * self.effect.numel()
        return [{"noise": self.noise, "drop": float(x)} for x in self.drop.flatten()]


def _erased(run: Recording, case: Case, instead: Tensor, sites: Sequence[str]) -> _Erased:
    effect, drop = torch.zeros(len(sites), case.length), torch.zeros(len(sites), case.length)
    plain = run.logits[:, -case.k :].float().softmax(-1)
    noise, evaluations, notes = 0.0, 0.0, dict.fromkeys(run.notes)
    size = len(sites) * case.k * run.logits.shape[-1] * 4 * 3
    step = max(1, BUDGET // size)
    for start in range(0, case.length, step):
        at = range(start, min(start + step, case.length))
        changes: list[dict[int | str, Any]] = [
            {site: set_to(instead[layer], at=position)}
            for layer, site in enumerate(sites)
            for position in at
        ]
        out = run.lanes(changes, last=case.k)
        before, after = (x.float().softmax(-1) for x in (out.baseline, out.logits))
        part = (after - before).norm(dim=-1).amax(-1).view(len(sites), len(at))
        effect[:, at.start : at.stop] = part.cpu()
        if case.answer is not None:
            lost = case.probability(out.baseline) - case.probability(out.logits)
            drop[:, at.start : at.stop] = lost.view(len(sites), len(at)).cpu()
        noise = max(noise, float((before - plain).norm(dim=-1).max()))
        evaluations += out.evaluations
        notes |= dict.fromkeys(out.notes)
    return _Erased(effect, None if case.answer is None else drop, noise, evaluations, tuple(notes))


def _instead(model: nn.Module, prompts: Prompts, by: str | Tensor, blocks: int) -> Tensor:
    """`[L + 1, d]` what an erased residual becomes."""
    if isinstance(by, Tensor):
        if by.ndim != 2 or len(by) != blocks + 1:
            raise ValueError(
                f"by is [{blocks + 1}, width], one vector for each layer; got {list(by.shape)}"
            )
        return by
    if by not in ("mean", "zero"):
        raise ValueError(f"by is 'mean', 'zero' or a tensor, not {by!r}")
    total: Tensor | None = None
    count = 0
    for _, batch in prompts.batches():
        states = residuals(model, batch["input_ids"])
        # Prompts of a single token have nothing but their first.
        kept = states[:, :, 1:] if states.shape[2] > 1 else states
        summed = kept.flatten(1, 2).double().sum(1)
        total = summed if total is None else total + summed
        count += int(np.prod(kept.shape[1:3]))
    assert total is not None
    mean = (total / count).to(states.dtype)
    return mean if by == "mean" else torch.zeros_like(mean)
