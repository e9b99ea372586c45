"""What a reconstruction does to the model that it was taken from: its loss and its predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.material.texts import Texts, run, tokens_at_once
from layerscope.analyses.sae.measuring.measured_rows import CODES
from layerscope.analyses.sae.sae import SAE
from layerscope.hooks.edits import edit
from layerscope.hooks.quiet import undisturbed

Floats = NDArray[np.float64]
Replacement = Callable[[Tensor, Tensor], Tensor]
"""(x [rows, d_in], y [rows, d_out]) -> what takes the place of y."""


@dataclass(frozen=True, eq=False)
class Behaviour:
    """Sums over predictions, by text."""

    names: tuple[str, ...]
    """Of the replacements."""
    clean: Floats
    """[texts] loss of the model as it is, nats."""
    loss: Floats
    """[replacements, texts]"""
    divergence: Floats
    """[replacements, texts] KL(clean || replaced), nats."""
    counts: Floats
    """[texts] predictions."""


def replacing(sae: SAE) -> Replacement:
    """The reconstruction, a part of the rows at a time."""

    def replaced(x: Tensor, y: Tensor) -> Tensor:
        size = max(64, CODES // sae.n_latents)
        return torch.cat([sae(part) for part in x.split(size)])

    return replaced


def constant(value: Tensor) -> Replacement:
    """The same vector [d_out] everywhere."""
    return lambda x, y: value.to(y).expand_as(y)


def behaviour(
    model: nn.Module,
    texts: Texts,
    site: str,
    target: str,
    replacements: Mapping[str, Replacement],
    *,
    progress: bool = True,
) -> Behaviour:
    """Run the model with `target` replaced at every token, for each replacement.

    Special tokens are neither replaced nor counted, as positions or as what is to be predicted. Each
    replacement is one whole pass: nothing of the model is written anew.

    Args:
        model: A causal language model.
        texts: What it reads.
        site: What a replacement reads.
        target: Where it writes.
        replacements: By name.
        progress: Whether to show a bar over texts.

    Raises:
        ValueError: no prediction is left, or logits that are not [texts, positions, vocabulary].
    """
    from tqdm.auto import tqdm

    special = torch.tensor(
        sorted(set(getattr(texts.prompts.tokenizer, "all_special_ids", None) or ())),
        dtype=torch.long,
    )
    clean, counts = np.zeros(texts.n_groups), np.zeros(texts.n_groups)
    loss = np.zeros((len(replacements), texts.n_groups))
    divergence = np.zeros_like(loss)
    with (
        undisturbed(model),
        tqdm(total=len(texts), desc="behaviour", unit="text", disable=not progress) as bar,
    ):
        for index, ids in texts.batches(tokens_at_once(model)):
            ordinary = ~torch.isin(ids, special)
            counted = ordinary[:, :-1] & ordinary[:, 1:]
            groups = texts.groups[index]
            if counted.any():
                before = _predictions(model, ids)
                np.add.at(clean, groups, _summed(_losses(before, ids), counted))
                np.add.at(counts, groups, counted.sum(1).numpy())
                for i, one in enumerate(replacements.values()):
                    after = _replaced(model, ids, site, target, one, ordinary)
                    np.add.at(loss[i], groups, _summed(_losses(after, ids), counted))
                    kl = (before.exp() * (before - after)).sum(-1)
                    np.add.at(divergence[i], groups, _summed(kl, counted))
            bar.update(len(index))
    if not counts.sum():
        raise ValueError(
            f"{texts.name!r} leaves no prediction: every text has fewer than two ordinary tokens"
        )
    return Behaviour(tuple(replacements), clean, loss, divergence, counts)


def measures(found: Behaviour, times: Floats | None = None) -> dict[str, dict[str, Floats]]:
    """For each replacement but the ablations ``zero`` and ``mean``, its measures, [draws] each.

    Args:
        found: With ``zero`` and ``mean`` among its replacements.
        times: How often each text counts in each draw, [draws, texts]; None: once, one draw.
    """
    times = np.ones((1, len(found.counts))) if times is None else times
    count = times @ found.counts
    clean = times @ found.clean / count
    losses = dict(zip(found.names, found.loss @ times.T / count, strict=True))
    kls = dict(zip(found.names, found.divergence @ times.T / count, strict=True))
    table = {}
    for name in found.names:
        if name in ("zero", "mean"):
            continue
        one = {"ce_clean": clean, "ce_replaced": losses[name], "kl": kls[name]}
        for ablation in ("zero", "mean"):
            one[f"ce_{ablation}"] = losses[ablation]
            one[f"ce_recovered_{ablation}"] = recovered(clean, losses[name], losses[ablation])
            one[f"kl_recovered_{ablation}"] = recovered(0.0 * clean, kls[name], kls[ablation])
        table[name] = one
    return table


def recovered(clean: Floats, replaced: Floats, ablated: Floats) -> Floats:
    """``(ablated - replaced) / (ablated - clean)``; NaN where the ablation does no harm."""
    harm = ablated - clean
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(harm > 0, (ablated - replaced) / harm, np.nan)


def _predictions(model: nn.Module, ids: Tensor) -> Tensor:
    """[b, p - 1, vocab] log probabilities of each next token."""
    out = run(model, ids)
    logits = out if isinstance(out, Tensor) else getattr(out, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 3:
        got = list(logits.shape) if isinstance(logits, Tensor) else type(out).__name__
        raise ValueError(
            f"{type(model).__name__} gives {got}: cross-entropy needs logits [texts, positions, vocab]"
        )
    wide = torch.promote_types(logits.dtype, torch.float32)
    return logits[:, :-1].to(wide).log_softmax(-1)


def _replaced(
    model: nn.Module, ids: Tensor, site: str, target: str, one: Replacement, ordinary: Tensor
) -> Tensor:
    kept: dict[str, Tensor] = {}

    def read(x: Tensor) -> Tensor:
        kept["x"] = x
        return x

    def write(y: Tensor) -> Tensor:
        x, mask = kept.get("x", y), ordinary.to(y.device)
        new = y.clone()
        new[mask] = one(x[mask], y[mask]).to(y.dtype)
        return new

    changes: dict[str, Any] = {target: write} if site == target else {site: read, target: write}
    with edit(model, changes):
        return _predictions(model, ids)


def _losses(log_probabilities: Tensor, ids: Tensor) -> Tensor:
    following = ids[:, 1:, None].to(log_probabilities.device)
    return -log_probabilities.gather(-1, following)[..., 0]


def _summed(values: Tensor, counted: Tensor) -> Floats:
    found: Floats = (values.double().cpu() * counted).sum(1).numpy()
    return found
