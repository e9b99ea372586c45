"""`direct_logits`: which sublayers write the answer's logit directly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from layerscope.analyses.depth.contributions import state_of
from layerscope.analyses.depth.token_maps import counted
from layerscope.analyses.lenses.frozen_norm import FrozenHead
from layerscope.analyses.material.answers import as_answers
from layerscope.analyses.material.resampling import mean_intervals
from layerscope.analyses.material.texts import run
from layerscope.analyses.skipping.cosines import sites_of
from layerscope.analyses.skipping.similarity_sources import model_sites, plan
from layerscope.finding import Finding, Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.prompts import as_prompts
from layerscope.hooks.quiet import undisturbed
from layerscope.wording import capital, place, rounded

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class DirectLogitsFinding(Finding):
    """What each sublayer adds to the answer's logit, the final norm's scale held fixed.

    Columns: ``part`` (``embed``, ``attention``, ``mlp``, ``block`` where it is not divided, ``bias``
    of the head), ``layer``, ``value`` (mean over prompts of what it adds to the logit of the answer's
    first token, less the mean over the vocabulary), ``ci_low``, ``ci_high`` (over prompts),
    ``total`` (the model's own centred logit, which the values add up to), ``error`` (largest
    difference of a prompt's sum from it), ``n``, ``unit``, ``estimator``.
    """

    question: ClassVar[str] = "Which layers write the answer into the output directly?"

    def answer(self) -> str:
        """The three largest contributions, and what they add up to."""
        table = self.table
        most = table.iloc[table["value"].abs().argsort().to_numpy()[::-1][:3]]
        parts = ", ".join(f"{_name(row)} {row.value:+.2f}" for row in most.itertuples())
        return (
            f"Of a logit of {table['total'].iloc[0]:.2f} above the vocabulary's mean, most comes "
            f"from {parts}; all parts add up to it within {table['error'].iloc[0]:.0e}. "
            f"{counted(table['n'].iloc[0])}."
        )

    def gist(self) -> str:
        """In one sentence."""
        order = self.table["value"].abs().argsort().to_numpy()[::-1]
        most, next_ = (self.table.iloc[order[rank]] for rank in (0, 1))
        total = rounded(self.table["total"].iloc[0])
        return (
            f"{capital(_placed(most))} writes the largest part of the answer directly: {rounded(most['value'])} of a "
            f"score of {total}, next {_placed(next_)}: {rounded(next_['value'])}."
        )

    def figure(self) -> go.Figure:
        """A bar for each sublayer, by layer, with its interval over prompts."""
        import plotly.graph_objects as go

        from layerscope.theme import COLORS, mark_layers, themed

        colors = COLORS | {"bias": COLORS["other"]}
        figure = go.Figure()
        for part in dict.fromkeys(self.table["part"]):
            lines = self.table[self.table["part"] == part]
            names = [str(n) if part not in ("embed", "bias") else part for n in lines["layer"]]
            known = lines["ci_low"].notna().all()
            figure.add_bar(
                x=names,
                y=lines["value"],
                name={"mlp": "MLP"}.get(part, part),
                marker_color=colors[part],
                error_y={
                    "array": lines["ci_high"] - lines["value"],
                    "arrayminus": lines["value"] - lines["ci_low"],
                    "visible": bool(known),
                    "thickness": 1,
                    "color": COLORS["baseline"],  # seen on light and dark alike
                },
                hovertemplate=f"{part} %{{x}}: %{{y:.3f}}<extra></extra>",
            )
        order = ["embed", *(str(n) for n in sorted(set(self.table["layer"])) if n >= 0), "bias"]
        figure.update_layout(
            xaxis={"title": "block", "type": "category", "categoryarray": order},
            yaxis={"title": "added to the answer's logit"},
            barmode="group",
        )
        layers = [-1, *range(len(order) - 2)]
        return themed(mark_layers(figure, layers, "x", at=range(len(layers))))


def direct_logits(
    model: nn.Module,
    prompts: Any,
    answers: Sequence[Any],
    *,
    tokenizer: Any = None,
    seed: int = 0,
) -> DirectLogitsFinding:
    """What embedding, attention and MLPs add to the logit of the answer, after the prompt.

    Only what goes straight to the head is seen, not what later layers make of it.

    Args:
        model: A decoder with an unembedding.
        prompts: Texts, ids or a batch.
        answers: One for each prompt; the first token is read, of several alternatives the one whose
            first token is likeliest.
        tokenizer: Object or path; None takes the model's own.
        seed: Of the intervals.

    Returns:
        A `DirectLogitsFinding`.

    Raises:
        ValueError: a head under which logits of parts do not add up (soft caps, norms that do more
            than rescale), or prompts and answers that do not fit together.
    """
    import pandas as pd

    started = time.perf_counter()
    given = as_prompts(model, prompts, tokenizer)
    known = as_answers(model, given, answers)
    pairs = plan(model_sites(model)).pairs
    halves = {pair.layer for pair in pairs if pair.part != "block"}
    pairs = tuple(p for p in pairs if p.part != "block" or p.layer not in halves)
    parts = [("embed", -1), *((p.part, p.layer) for p in pairs), ("bias", -1)]
    values = np.zeros((len(given), len(parts)))
    totals = np.zeros(len(given))
    for index, batch in given.batches():
        states, logits = _last(model, batch["input_ids"], pairs)
        wanted = _likeliest(logits, [known.ids[i] for i in index.tolist()])
        rows = index.numpy()  # a tensor of one index would be taken for a number
        values[rows] = _added(model, states, pairs, wanted).cpu().numpy()
        totals[rows] = _centred(logits, wanted).cpu().numpy()
    low, high = mean_intervals(values, np.ones(len(given)), seed=seed)
    table = pd.DataFrame(parts, columns=["part", "layer"])
    table = table.assign(value=values.mean(0), ci_low=low, ci_high=high, total=totals.mean())
    table = table.assign(error=np.abs(values.sum(1) - totals).max(), n=len(given))
    return DirectLogitsFinding(
        table=table.assign(unit="logit above the mean", estimator="frozen norm"),
        provenance=Provenance(
            model=anatomy(model).model,
            data=f"{len(given)} prompts",
            parameters={"layer_evaluations": len(anatomy(model).blocks) * len(given)},
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*given.notes, *_notes(known.ids)),
    )


def _last(model: nn.Module, ids: Tensor, pairs: Sequence[Any]) -> tuple[dict[str, Tensor], Tensor]:
    """States `[b, d]` by site and logits `[b, V]`, at the last position."""
    stream = [f"blocks.{len(anatomy(model).blocks) - 1}.resid_post", "embed"]
    sites = list(
        dict.fromkeys([*stream, *sites_of([s for p in pairs for s in (p.before, p.after)])])
    )
    with undisturbed(model), capture(model, [*sites, "logits"]) as seen:
        run(model, ids)
    return {site: seen[site][:, -1] for site in sites}, seen["logits"][:, -1]


def _added(
    model: nn.Module, states: dict[str, Tensor], pairs: Sequence[Any], wanted: Tensor
) -> Tensor:
    """`[b, parts]` centred logits of the wanted tokens."""
    final = states[f"blocks.{len(anatomy(model).blocks) - 1}.resid_post"]
    head = FrozenHead(model, final)
    moves = [
        (state_of(states, p.after) - state_of(states, p.before)).to(final.dtype) for p in pairs
    ]
    columns = [_centred(head(x), wanted) for x in (states["embed"], *moves)]
    return torch.stack([*columns, _centred(head.constant, wanted)], 1).double()


def _likeliest(logits: Tensor, answers: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """`[b]` of each row's alternatives the first token with the greatest logit."""
    firsts = ([ids[0] for ids in options] for options in answers)
    return torch.tensor(
        [
            max(one, key=lambda token: float(row[token]))
            for row, one in zip(logits, firsts, strict=True)
        ]
    )


def _centred(logits: Tensor, wanted: Tensor) -> Tensor:
    """`[b]` the wanted token's logit less the mean over the vocabulary."""
    wide = logits.double()
    return wide.gather(1, wanted.to(wide.device)[:, None])[:, 0] - wide.mean(1)


def _name(row: Any) -> str:
    return row.part if row.layer < 0 else f"{row.part} {row.layer}"


def _notes(ids: Sequence[Sequence[Sequence[int]]]) -> list[str]:
    long = sum(len(one) > 1 for options in ids for one in options)
    notes = [
        "Contributions through later layers are not seen; see `erasure` and patching for those."
    ]
    if long:
        notes.append(f"{long} answers are several tokens; the first of each is read.")
    several = sum(len(options) > 1 for options in ids)
    if several:
        notes.append(
            f"{several} prompts have several right answers; the one with the likeliest first token "
            "is read."
        )
    return notes


def _placed(line: Any) -> str:
    site = {"attention": "attn_out", "mlp": "mlp_out"}.get(line["part"])
    return place(line["part"] if site is None else f"blocks.{line['layer']}.{site}")
