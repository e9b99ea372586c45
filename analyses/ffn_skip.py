"""`ffn_skip`: how many MLPs tokens can do without, once their states have stopped turning."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from layerscope.analyses.material.decoders import require_decoder
from layerscope.analyses.material.resampling import mean_intervals
from layerscope.analyses.material.texts import tokens_at_once
from layerscope.analyses.skipping.cosines import cosine
from layerscope.analyses.skipping.ffn_skip_finding import FfnSkipFinding
from layerscope.analyses.skipping.skip_effects import Output
from layerscope.analyses.skipping.skip_inputs import chosen_texts, refuse_model
from layerscope.analyses.skipping.skip_lanes import Lane
from layerscope.finding import Provenance
from layerscope.hooks import edits
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.load import device_of
from layerscope.hooks.locating.structure import title
from layerscope.hooks.quiet import evaluating
from layerscope.hooks.replay import record
from layerscope.hooks.unembed import Unembed


def skipped_ffns(
    cosines: Tensor, threshold: float, *, cold_start: int = 1, cold_end: int = 1, warm_up: int = 0
) -> Tensor:
    """Which MLPs the policy of FFN-SkipLLM (Jaiswal et al. 2024) leaves out, token by token.

    Args:
        cosines: ``[..., tokens, blocks]`` of the state before and after each MLP, residual on both
            sides.
        threshold: Once a token's cosine reaches it, the MLPs of all following blocks are skipped.
        cold_start: So many first blocks are neither looked at nor skipped.
        cold_end: So many last blocks are never skipped.
        warm_up: So many first tokens skip nothing.

    Returns:
        ``[..., tokens, blocks]``, true where the MLP is skipped.
    """
    blocks = cosines.shape[-1]
    number = torch.arange(blocks, device=cosines.device)
    reached = (cosines >= threshold) & (number >= cold_start)
    before = reached.int().cumsum(-1) - reached.int()
    skipped = (before > 0) & (number < blocks - cold_end)
    late = torch.arange(cosines.shape[-2], device=cosines.device) >= warm_up
    return skipped & late[:, None]


def ffn_skip(
    model: nn.Module,
    data: Any = None,
    *,
    thresholds: Sequence[float] = (0.9, 0.95, 0.98, 0.99, 0.995),
    cold_start: int = 1,
    cold_end: int = 1,
    warm_up: int = 4,
    max_texts: int = 32,
    max_tokens: int | None = 256,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> FfnSkipFinding:
    """Skip MLPs token by token where the whole model's cosines say so, and measure the loss.

    The policy is decided from the whole model (an offline profile: while generating, earlier skips
    would change later cosines), and then really carried out. The control skips as many MLPs of each
    token among the same blocks, at random.

    Args:
        model: A causal language model.
        data: Texts, ids or a corpus; None takes bundled sentences.
        thresholds: One line each.
        cold_start: See `skipped_ffns`.
        cold_end: See `skipped_ffns`.
        warm_up: See `skipped_ffns`; the paper's is about 30 generated tokens.
        max_texts: More texts are drawn from at random.
        max_tokens: Longer texts are cut.
        tokenizer: Object or path; None takes the model's own.
        seed: Of texts, control and intervals.
        progress: Whether to show bars.

    Raises:
        LookupError: a model without blocks, MLPs or logits.
        ValueError: no text that is long enough, no threshold, or an encoder.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    started = time.perf_counter()
    refuse_model(model, "mlp")
    if not thresholds:
        raise ValueError("give at least one threshold")
    texts = chosen_texts(model, data, 0, max_texts, max_tokens, tokenizer=tokenizer, seed=seed)
    require_decoder(model, texts.prompts)
    decode = Unembed(model)
    generator = torch.Generator().manual_seed(seed)
    sums = np.zeros((texts.n_groups, len(thresholds), 3))
    counts = np.zeros((texts.n_groups, 2))
    with (
        evaluating(model),
        torch.no_grad(),
        tqdm(total=len(texts), desc="MLPs", unit="text", disable=not progress) as bar,
    ):
        for index, ids in texts.batches(tokens_at_once(model, most=1024)):
            batch = ids.to(device_of(model))
            masks = _masks(model, batch, thresholds, (cold_start, cold_end, warm_up), generator)
            values = _losses(model, batch, masks, decode)
            share = torch.stack([x.float().mean(-1).sum(-1) for x in masks[::2]], -1)
            parts = [share.cpu().numpy(), values[::2].T, values[1::2].T]
            groups = texts.groups[index]
            np.add.at(sums, groups, np.stack(parts, -1))
            np.add.at(counts, groups, [[batch.shape[1], batch.shape[1] - 1]] * len(groups))
            bar.update(len(index))
    return FfnSkipFinding(
        table=pd.DataFrame(_lines(sums, counts, thresholds, seed)),
        provenance=Provenance(
            model=title(model),
            data=f"{texts.name}, {len(texts)} texts of {texts.tokens:,} tokens",
            call=f"ffn_skip(model{', data' if data is not None else ''})",
            parameters={
                "thresholds": list(thresholds),
                "cold_start": cold_start,
                "cold_end": cold_end,
                "warm_up": warm_up,
                "max_texts": max_texts,
                "max_tokens": max_tokens,
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=tuple(dict.fromkeys([*texts.notes, *_cautions(model, warm_up)])),
    )


def _cautions(model: nn.Module, warm_up: int) -> list[str]:
    notes = [
        "Decided from the whole model's cosines; a model that skips while it generates differs."
    ]
    if any(block.parallel for block in anatomy(model).blocks):
        notes.append(
            "Attention and MLP run in parallel here: the state before the MLP is input + attn_out."
        )
    if warm_up:
        notes.append(f"The first {warm_up} tokens of each text skip nothing (warm_up).")
    return notes


def _masks(
    model: nn.Module,
    ids: Tensor,
    thresholds: Sequence[float],
    rules: tuple[int, int, int],
    generator: torch.Generator,
) -> list[Tensor]:
    """For each threshold the policy and its control: ``[b, p, blocks]`` each."""
    start, end, warm_up = rules
    run = record(model, {"input_ids": ids}, keep="blocks.*.mlp_out")
    cosines = [
        cosine(run.residuals[i + 1] - run[f"blocks.{i}.mlp_out"], run.residuals[i + 1])
        for i in range(run.n_blocks)
    ]
    masks = []
    for threshold in thresholds:
        rule = {"cold_start": start, "cold_end": end, "warm_up": warm_up}
        mask = skipped_ffns(torch.stack(cosines, -1), threshold, **rule)
        # The same number for each token, among the blocks that the policy may skip.
        drawn = torch.rand(mask.shape, generator=generator).to(mask.device)
        drawn[..., : start + 1] = drawn[..., run.n_blocks - end :] = 2
        control = drawn.argsort(-1).argsort(-1) < mask.sum(-1, keepdim=True)
        masks += [mask, control]
    return masks


def _losses(
    model: nn.Module, ids: Tensor, masks: Sequence[Tensor], decode: Unembed
) -> NDArray[np.float64]:
    """Loss added by each mask, summed over each text: ``[masks, b]``."""
    run = record(model, {"input_ids": ids})
    changes = [_changes(mask) for mask in masks]
    wanted = [i for i, change in enumerate(changes) if change]
    found = np.zeros((len(masks), len(ids)))
    if wanted:
        out = run.lanes([changes[i] for i in wanted], last=0, keep=[-1], budget=2**62)
        rows = out[next(iter(out.base))].unflatten(0, (len(wanted), len(ids)))
        lanes = [Lane(0, 0, ids.shape[1], 0)] * len(wanted)
        effects = Output(decode, run.residuals[-1], ids).of(rows, lanes)
        found[wanted] = effects["loss"][0].numpy()
    return found


def _changes(mask: Tensor) -> dict[int | str, Any]:
    def without(block: int) -> Any:
        kept = (~mask[..., block, None]).float()
        return edits.change(lambda x: x * kept.to(x))

    blocks = [i for i in range(mask.shape[-1]) if bool(mask[..., i].any())]
    return {f"blocks.{i}.mlp_out": without(i) for i in blocks}


def _lines(
    sums: NDArray[np.float64], counts: NDArray[np.float64], thresholds: Sequence[float], seed: int
) -> list[dict[str, Any]]:
    low, high = mean_intervals(sums[:, :, 1], counts[:, 1], seed=seed)
    tokens, predicted = counts.sum(0)
    return [
        {
            "threshold": threshold,
            "share": sums[:, k, 0].sum() / tokens,
            "value": sums[:, k, 1].sum() / predicted,
            "ci_low": low[k],
            "ci_high": high[k],
            "control": sums[:, k, 2].sum() / predicted,
            "n": int(predicted),
            "n_groups": len(counts),
            "unit": "nats/token",
            "estimator": "mean over tokens",
        }
        for k, threshold in enumerate(thresholds)
    ]
