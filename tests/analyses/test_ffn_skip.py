"""Skipping MLPs token by token: a planted profile, counts, plain hooks, the control."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from layerscope.analyses.ffn_skip import ffn_skip, skipped_ffns
from layerscope.finding import Finding
from layerscope.planted import families
from layerscope.planted.turns import turning

TEXTS = [[5, 9, 12, 40, 7, 3], [3, 3, 8, 21], [60, 59, 58, 57, 56, 55]]
GAINS = [1.0, 0.9, 0.8, 0.2, 0.7, 0.1, 0.6, 0.5]  # below 1/3 first at block 3


def planted() -> nn.Module:
    """MLPs that turn the state by known angles: cosine 1 / sqrt(1 + gain squared)."""
    return turning(GAINS, tokens=61)


def test_the_policy_skips_all_that_follow_the_first_block_over_the_threshold() -> None:
    cosines = torch.tensor([[1 / math.sqrt(1 + g * g) for g in GAINS]] * 5)
    mask = skipped_ffns(cosines, 0.95, cold_start=1, cold_end=2, warm_up=2)
    assert not mask[:2].any()
    assert mask[2:].nonzero()[:, 1].unique().tolist() == [4, 5]  # k + 1 to L - cold_end - 1
    assert mask[2:].float().mean() == pytest.approx(2 / 8)
    assert not skipped_ffns(cosines, 0.999, cold_start=1, cold_end=2).any()
    early = skipped_ffns(cosines, 0.5, cold_start=4, cold_end=0)
    assert early[0].nonzero()[:, 0].tolist() == [5, 6, 7]


def test_each_token_decides_for_itself() -> None:
    cosines = torch.tensor([[0.99, 0.5, 0.5, 0.5], [0.5, 0.5, 0.99, 0.5], [0.5, 0.5, 0.5, 0.5]])
    mask = skipped_ffns(cosines, 0.9, cold_start=0, cold_end=0)
    assert mask.tolist() == [
        [False, True, True, True],
        [False, False, False, True],
        [False, False, False, False],
    ]


def test_the_planted_profile_gives_the_planted_share() -> None:
    found = ffn_skip(
        planted(), TEXTS, thresholds=[0.95], cold_end=2, warm_up=0, progress=False
    ).table
    assert found["share"].iloc[0] == pytest.approx(2 / 8)
    warm = ffn_skip(planted(), TEXTS, thresholds=[0.95], cold_end=2, warm_up=2, progress=False)
    tokens = sum(map(len, TEXTS))
    later = tokens - 2 * len(TEXTS)
    assert warm.table["share"].iloc[0] == pytest.approx(2 / 8 * later / tokens)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
def test_the_loss_is_that_of_a_model_whose_tokens_skip(family: str) -> None:
    """The same by plain hooks: cosines of one pass, zeros in the MLPs' output in the next."""
    model: Any = families.build(family)
    found = ffn_skip(
        model, TEXTS, thresholds=[0.0], cold_start=0, cold_end=0, warm_up=1, progress=False
    )
    assert found.table["share"].iloc[0] == pytest.approx(2 / 3 * (1 - 3 / sum(map(len, TEXTS))))
    holder = model.transformer.h if family == "gpt2" else model.model.layers
    total = 0.0
    for ids in TEXTS:
        whole = _loss(model, ids)
        handles = [block.mlp.register_forward_hook(_first_only) for block in list(holder)[1:]]
        total += _loss(model, ids) - whole
        for handle in handles:
            handle.remove()
    count = sum(len(ids) - 1 for ids in TEXTS)
    assert found.table["value"].iloc[0] == pytest.approx(total / count, abs=1e-4)


def _first_only(module: nn.Module, args: Any, output: Any) -> Any:
    y = (output[0] if isinstance(output, tuple) else output).clone()
    y[:, 1:] = 0
    return (y, *output[1:]) if isinstance(output, tuple) else y


def _loss(model: Any, ids: list[int]) -> float:
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1]
    return float(nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum"))


def test_a_threshold_nobody_reaches_changes_nothing() -> None:
    found = ffn_skip(families.build("llama"), TEXTS, thresholds=[1.1, 0.0], progress=False)
    first = found.table.iloc[0]
    assert (first["share"], first["value"], first["control"]) == (0, 0, 0)
    with pytest.raises(ValueError, match="give at least one threshold"):
        ffn_skip(families.build("llama"), TEXTS, thresholds=[], progress=False)


def test_the_control_skips_as_many_of_the_same_blocks() -> None:
    from layerscope.analyses.ffn_skip import _masks

    model = families.build("llama")
    ids = torch.tensor([TEXTS[0]])
    policy, control = _masks(model, ids, [0.0], (0, 1, 2), torch.Generator().manual_seed(0))
    assert torch.equal(policy.sum(-1), control.sum(-1))
    assert not control[..., [0, 2]].any()


def test_the_finding_is_saved_whole_and_drawn(tmp_path: Any) -> None:
    found = ffn_skip(families.build("gptj"), TEXTS, progress=False)
    again = Finding.load(found.save(tmp_path / "finding"))
    assert again.answer() == found.answer()
    assert "at random cost" in found.answer()
    assert any("run in parallel" in note for note in found.notes)
    lines = [trace for trace in found.figure().data if trace.hoverinfo != "skip"]
    assert len(lines) == 2


def test_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="reads in both directions"):
        ffn_skip(families.build("bert"), [[5, 6, 7]], progress=False)


def test_one_text_has_no_interval_and_none_is_spoken_of() -> None:
    found = ffn_skip(families.build("llama"), [[5, 6, 7, 8, 9]], progress=False)
    assert "nan" not in found.answer()
