"""`lens_tokens`: one text, token by layer, with what each layer would say next."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from layerscope.analyses.lenses.lens_fitting import Fitting, check_kind
from layerscope.analyses.lenses.lens_measures import Final, chunked, rank, widened
from layerscope.analyses.lenses.translators import Translator
from layerscope.analyses.material.pieces import piece
from layerscope.analyses.material.texts import Texts, as_texts, residual_sites, residuals
from layerscope.finding import Finding, Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.sites import layer_of
from layerscope.hooks.unembed import Unembed
from layerscope.wording import percent, place, shortened

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MOST_TOKENS = 40
"""How many tokens of a text are read where nothing else is asked: a picture one can take in."""

LEGEND = (
    "Bold words are what the text goes on with; the colour is the probability that a layer gives to "
    "the model's own final prediction."
)


@dataclass(frozen=True)
class LensTokensFinding(Finding):
    """What every layer would say after every token; one line for each token and layer.

    Columns: ``position``, ``token`` (what was read), ``site``, ``layer``, ``prediction`` and
    ``probability`` (the layer's likeliest next token), ``likeliest`` (its first k, one in a line),
    ``final`` (the model's own prediction), ``final_probability`` and ``final_rank`` (what the layer
    thinks of it), ``next`` (what follows in the text; None after the last token), ``next_rank``,
    ``kl_final_lens`` (nats), ``lens``, ``unit``.
    """

    question: ClassVar[str] = "What would each layer say next, token by token?"

    def answer(self) -> str:
        """The prediction after the last token, and from which layer on it stands."""
        table = self.table
        last = table[table["position"] == table["position"].max()]
        final = last.iloc[-1]
        since = settled(last)
        lens = final["lens"]
        same = table[table["layer"] < table["layer"].max()]
        share = float((same["prediction"] == same["final"]).mean())
        return (
            f"After {final['token']!r} the model says {final['prediction']!r} "
            f"({final['probability']:.0%}); through the {lens} lens, that is the first choice "
            f"from {since} on. Over all {table['position'].nunique()} tokens, the layers before the "
            f"last name the final prediction in {share:.0%} of the cells."
        )

    def gist(self) -> str:
        """In one sentence."""
        table = self.table
        last = table[table["position"] == table["position"].max()]
        final = last.iloc[-1]
        same = table[table["layer"] < table["layer"].max()]
        share = percent(float((same["prediction"] == same["final"]).mean()))
        token, said = (shortened(final[name], 16) for name in ("token", "prediction"))
        return (
            f"After “{token}” the model says “{said}”, settled from {place(settled(last))} on; over "
            f"all tokens, earlier layers agree with the last in {share}."
        )

    def figure(self) -> go.Figure:
        """Tokens downwards, layers across; colour is the probability of the final prediction."""
        from layerscope.analyses.lenses.lens_tokens_figure import grid

        return grid(self.table)


def settled(lines: pd.DataFrame) -> str:
    """The site from which on the prediction of one token no longer changes."""
    other = lines[lines["prediction"] != lines["final"]]
    first = lines if not len(other) else lines[lines["layer"] > other["layer"].max()]
    return str(first["site"].iloc[0])


def lens_tokens(
    model: nn.Module,
    text: Any,
    *,
    kind: str | Translator = "logit",
    fit: Any = None,
    k: int = 5,
    start: int = 0,
    tokens: int = MOST_TOKENS,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> LensTokensFinding:
    """The likeliest next tokens at every layer and token of one text.

    Args:
        model: A model with an unembedding.
        text: One text, or its ids.
        kind: ``"logit"``, ``"tuned"``, ``"affine"``, or a lens that was fitted before.
        fit: Texts to fit a tuned or affine lens on; None takes bundled sentences.
        k: How many tokens the hover lists.
        start: The first token that is shown; all of the text is read.
        tokens: At most so many are shown.
        tokenizer: Object or path; None takes the model's own.
        seed: Of the training of a tuned lens.
        progress: Whether to show bars.

    Returns:
        A `LensTokensFinding`.

    Raises:
        ValueError: several texts, an unknown kind, or `start` beyond the text.
    """
    started = time.perf_counter()
    texts = as_texts(model, [text] if isinstance(text, str) else text, tokenizer=tokenizer)
    if len(texts) != 1:
        raise ValueError(
            f"lens_tokens() shows one text, got {len(texts)}; lens() measures many of them"
        )
    ids = texts.prompts.ids[0]
    if not 0 <= start < len(ids):
        raise ValueError(
            f"start={start}, but the text has {len(ids)} tokens; it is 0 to {len(ids) - 1}"
        )
    other = None
    if isinstance(kind, str) and kind != "logit":
        check_kind(kind)
        other = as_texts(model, fit, tokenizer=tokenizer)
    translate = Fitting(seed=seed, progress=progress)(model, kind, other)
    states = residuals(model, ids[None])[:, 0]
    shown = slice(start, start + tokens)
    return LensTokensFinding(
        table=_table(model, texts, states, translate, shown, k),
        provenance=Provenance(
            model=anatomy(model).model,
            data=f"one text of {len(ids)} tokens",
            parameters={
                "text": texts.prompts.texts[0],
                "kind": translate.kind,
                "fitted": getattr(translate, "about", {}),
                "k": k,
                "start": start,
                "tokens": tokens,
                "layer_evaluations": len(states) - 1,
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*texts.notes, *_notes(len(ids), shown)),
    )


def _table(
    model: nn.Module, texts: Texts, states: Tensor, translate: Translator, shown: slice, k: int
) -> pd.DataFrame:
    import pandas as pd

    decode = torch.no_grad()(Unembed(model))
    ids = texts.prompts.ids[0]
    following = torch.cat([ids[1:], ids.new_tensor([-1])]).to(states.device)[shown]
    read = texts.prompts.tokens(0)
    sites = residual_sites(len(states) - 1)
    lines: list[dict[str, Any]] = []
    for rows, logits in chunked(decode, states[-1, shown]):
        final = Final.of(logits, following[rows], k)
        for layer, site in enumerate(sites):
            own = decode(translate(states[layer, shown][rows], layer))
            cells = _cells(texts.prompts.tokenizer, own, final)
            for offset, cell in enumerate(cells, (shown.start or 0) + (rows.start or 0)):
                place = {"position": offset, "token": read[offset]}
                place |= {"site": site, "layer": layer_of(site)}
                lines.append(place | cell | {"lens": translate.kind, "unit": "probability"})
    return pd.DataFrame(lines).sort_values(["position", "layer"], ignore_index=True)


def _cells(tokenizer: Any, logits: Tensor, final: Final) -> list[dict[str, Any]]:
    """One layer's view of each token."""
    wide = widened(logits)
    probability = wide.softmax(-1)
    p, top = probability.topk(final.top.shape[-1], -1)
    chosen = final.top[:, 0]
    measured = final.compare(logits)
    cells = []
    for i in range(len(wide)):
        names = [piece(tokenizer, int(token)) for token in top[i]]
        follows = int(final.next[i])
        cells.append(
            {
                "prediction": names[0],
                "probability": float(p[i, 0]),
                "likeliest": "\n".join(
                    f"{name!r} {float(x):.1%}" for name, x in zip(names, p[i], strict=True)
                ),
                "final": piece(tokenizer, int(chosen[i])),
                "final_probability": float(probability[i, chosen[i]]),
                "final_rank": int(rank(wide[i : i + 1], chosen[i : i + 1])[0]),
                "next": None if follows < 0 else piece(tokenizer, follows),
                "next_rank": float(measured["rank"][i]),
                "kl_final_lens": float(measured["kl_final_lens"][i]),
            }
        )
    return cells


def _notes(length: int, shown: slice) -> list[str]:
    notes = [LEGEND]
    first, last = shown.start or 0, min(length, shown.stop)
    if (first, last) != (0, length):
        notes.append(
            f"Tokens {first} to {last - 1} of {length} are shown; the model has read all before."
        )
    return notes
