"""`integrated_gradients`: how much each layer and token adds to the probability of the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from layerscope.analyses.depth.depth_scores import depth_score
from layerscope.analyses.depth.token_maps import cases, counted, lines_of, profile_lines, table_of
from layerscope.analyses.material.decoders import require_decoder
from layerscope.finding import Finding, Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.prompts import as_prompts
from layerscope.hooks.replay import Recording, record
from layerscope.wording import place, rounded

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SITES = {"block": "resid_post", "attention": "attn_out", "mlp": "mlp_out"}
RULES = {"middle": "riemann_middle", "left": "riemann_left", "gauss": "gausslegendre"}
"""Our names for the ways to add up the steps, and captum's."""
POOR = 0.05
NONE = 1e-6
"""Attributions below this are none."""
"""Completeness error, as a share of the difference that is explained, above which a note says so."""


@dataclass(frozen=True)
class IntegratedGradientsFinding(Finding):
    """What each layer and token adds to the probability of the answer, along a straight path.

    Columns: ``scope`` (``token``: one cell; ``prompts``: sum of sizes over tokens, mean over
    prompts), ``prompt``, ``text``, ``layer``, ``site``, ``position``, ``token``, ``value``
    (attribution), ``reached`` (what the model gives the answer), ``start`` (what it gives at the
    baseline), ``error`` (sum of attributions of this layer less ``reached - start``), ``ci_low``,
    ``ci_high`` (over prompts), ``n``, ``unit``, ``estimator``.
    """

    question: ClassVar[str] = "Which layers and tokens does the answer's probability come from?"

    def answer(self) -> str:
        """The layers and the token that add most, and how complete the sum is."""
        curve, cells = self.profile, self.table[self.table["scope"] == "token"]
        most = curve.iloc[int(curve["value"].to_numpy().argmax())]
        cell = cells.iloc[int(cells["value"].abs().to_numpy().argmax())]
        n = int(most["n"])
        return (
            f"Attributions are largest at {most['site']} (sum of sizes {most['value']:.2f}); the "
            f"largest single one is {cell['value']:+.2f}, of {cell['token']!r} at {cell['site']}. "
            f"Depth score {depth_score(curve['value'].to_numpy()):.1f} of "
            f"{len(curve) - 1}; the sums are complete to {cells['error'].abs().max():.1e}; "
            f"{counted(n)}."
        )

    def gist(self) -> str:
        """In one sentence."""
        curve, cells = self.profile, self.table[self.table["scope"] == "token"]
        most, least = (curve.iloc[int(getattr(curve["value"], f)())] for f in ("argmax", "argmin"))
        if most["value"] < NONE:
            return "By gradients, the answer's probability comes from no layer in particular: all add 0."
        said = f"By gradients, the answer hangs most on {place(most['site'])} ({rounded(most['value'])})"
        said += f" and least on {place(least['site'])} ({rounded(least['value'])})"
        error = float(cells["error"].abs().max())
        return (
            f"{said}."
            if error <= POOR
            else f"{said}; not to be relied on: sums are off by {rounded(error)}."
        )

    @property
    def profile(self) -> pd.DataFrame:
        """The lines over prompts, by layer."""
        return self.table[self.table["scope"] == "prompts"]

    def figure(self) -> go.Figure:
        """Layer by token for one prompt; for several the sum of sizes by layer, with its interval."""
        from layerscope.analyses.depth.token_maps_figure import draw

        return draw(self.table, "attribution to the answer's probability", "block", signed=True)


def integrated_gradients(
    model: nn.Module,
    prompts: Any,
    answers: Sequence[Any],
    *,
    part: Literal["block", "attention", "mlp"] = "block",
    steps: int = 32,
    rule: Literal["middle", "left", "gauss"] = "middle",
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> IntegratedGradientsFinding:
    """Integrated gradients of the answer's probability, at each layer on its own.

    At a layer, the path leads from the mean of its output over the prompt's positions to the output
    itself, all positions at once; the attribution of a token is the gradient along the path times
    what it moved (Sundararajan et al. 2017, by captum). Blocks before the layer are not run.

    Args:
        model: A decoder.
        prompts: Texts, ids or a batch.
        answers: One for each prompt; the sum of its tokens' probabilities is attributed.
        part: The output of what: ``"block"`` (the stream after it), ``"attention"`` or ``"mlp"``
            (what they add).
        steps: Points on each path.
        rule: ``"middle"`` of each step; ``"left"`` ends of steps, whose error is only 1 / steps;
            ``"gauss"`` (Gauss-Legendre).
        tokenizer: Object or path; None takes the model's own.
        seed: Of the intervals.
        progress: Whether to show a bar.

    Returns:
        An `IntegratedGradientsFinding`; its ``error`` says how complete each sum is.

    Raises:
        ValueError: an unknown part or rule, fewer than two steps, answers that do not fit, or an
            encoder.
    """
    from tqdm.auto import tqdm

    if part not in SITES or rule not in RULES:
        raise ValueError(
            f"part is one of {', '.join(SITES)} and rule one of {', '.join(RULES)}; got {part!r} "
            f"and {rule!r}"
        )
    if steps < 2:
        raise ValueError(f"a path has at least 2 steps, not {steps}")
    started = time.perf_counter()
    given = as_prompts(model, prompts, tokenizer)
    require_decoder(model, given)
    listed, notes = cases(model, given, answers)
    blocks = len(anatomy(model).blocks)
    sites = [f"blocks.{i}.{SITES[part]}" for i in range(blocks)]
    lines: list[dict[str, Any]] = []
    profiles, evaluations, more = [], 0.0, list(notes)
    for case in tqdm(listed, desc="integrated gradients", unit="prompt", disable=not progress):
        run = record(model, case.ids, keep=sites)
        evaluations += blocks
        found = [
            path(run, site, case.probability, last=case.k, steps=steps, rule=rule) for site in sites
        ]
        attributions = torch.stack([one.attribution for one in found])
        new = lines_of(given, case, sites, attributions)
        lines += [line | found[line["layer"]].numbers for line in new]
        profiles.append(attributions[:, : case.length].abs().sum(1).double())
        evaluations += sum(one.evaluations for one in found)
        more += [note for note in run.notes if note not in more]
    curve = profile_lines(sites, torch.stack(profiles).numpy(), seed)
    finding = table_of(
        lines + curve, "sum of the answer tokens' probabilities", f"{rule}, {steps} steps"
    )
    return IntegratedGradientsFinding(
        table=finding,
        provenance=Provenance(
            model=anatomy(model).model,
            data=f"{len(given)} prompts",
            parameters={
                "prompts": len(given),
                "part": part,
                "steps": steps,
                "rule": rule,
                # A backward pass is counted as two forward ones.
                "layer_evaluations": round(evaluations, 3),
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*given.notes, *more, *_poor(lines)),
    )


@dataclass(frozen=True, eq=False)
class Path:
    """Integrated gradients at one site of one prompt."""

    attribution: Tensor
    """`[p]`, summed over the width."""
    reached: float
    start: float
    error: float
    evaluations: float
    """Layer-evaluations, a backward pass counted as two forward ones."""

    @property
    def numbers(self) -> dict[str, float]:
        return {"reached": self.reached, "start": self.start, "error": self.error}


def path(
    run: Recording,
    site: str,
    measure: Callable[[Tensor], Tensor],
    *,
    last: int,
    steps: int,
    rule: str = "middle",
) -> Path:
    """Attribute a number to the positions of a recorded site.

    Args:
        run: A recording of one prompt, with `site` kept.
        site: A residual site, `attn_out` or `mlp_out`.
        measure: The number `[n]`, from logits `[n, last, vocab]` at the last positions.
        last: At how many last positions logits are read.
        steps: Points on the path; they run as rows of one batch.
        rule: ``middle``, ``left`` or ``gauss``.
    """
    from captum.attr import IntegratedGradients

    here = run[site]
    baseline = here.mean(1, keepdim=True).expand_as(here)
    spent = 0.0

    def score(values: Tensor) -> Tensor:
        nonlocal spent
        with_slopes = torch.is_grad_enabled() and values.requires_grad
        out = run.replay(site, values, of=[0] * len(values), last=last, grad=with_slopes)
        spent += out.evaluations * (3 if with_slopes else 1)
        return measure(out.logits)

    found = IntegratedGradients(score).attribute(
        here, baselines=baseline, n_steps=steps, method=RULES[rule]
    )
    with torch.no_grad():
        start, reached = score(torch.cat([baseline, here])).tolist()
    attribution = found[0].sum(-1).detach()
    error = float(attribution.double().sum()) - (reached - start)
    return Path(attribution.cpu(), reached, start, error, spent)


def _poor(lines: Sequence[dict[str, Any]]) -> list[str]:
    worst = max(
        (line for line in lines), key=lambda line: abs(line["error"]), default={"error": 0.0}
    )
    explained = abs(worst.get("reached", 0.0) - worst.get("start", 0.0))
    if abs(worst["error"]) <= POOR * max(explained, 1e-3):
        return []
    note = (
        f"At {worst['site']} the attributions miss the difference they should add up to "
        f"({explained:.3g}) by {abs(worst['error']):.2g}: more steps are needed."
    )
    return [note]
