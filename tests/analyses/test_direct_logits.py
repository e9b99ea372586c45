"""Direct logit attribution with a frozen norm: exact sums, in every family that allows them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from layerscope.analyses.direct_logits import DirectLogitsFinding, direct_logits
from layerscope.analyses.lenses.frozen_norm import FrozenHead
from layerscope.analyses.material.texts import residuals
from layerscope.finding import Finding
from layerscope.planted import families
from layerscope.planted.two_hop import two_hop

SUMS = [name for name in families.names("decoder") if name != "gemma2"]


@pytest.mark.parametrize("name", SUMS)
def test_what_was_added_sums_to_the_logits(name: str) -> None:
    model: Any = families.build(name)
    ids = families.batch(name)["input_ids"]  # type: ignore[call-overload]
    states = residuals(model, ids).flatten(1, 2)
    head = FrozenHead(model, states[-1])
    parts = [
        states[0],
        *(after - before for before, after in pairwise(states)),
    ]
    total = head.constant + sum(head(part) for part in parts)
    with torch.no_grad():
        logits = model(ids).logits.flatten(0, 1)
    torch.testing.assert_close(total, logits, rtol=1e-5, atol=5e-6)


def test_the_scale_that_is_frozen_is_each_rows_own() -> None:
    model: Any = families.build("llama")
    ids = families.batch("llama")["input_ids"]  # type: ignore[call-overload]
    stream = residuals(model, ids)[-1, :, -1]
    part = torch.randn(2, families.WIDTH, generator=torch.Generator().manual_seed(0))
    norm = model.model.norm
    root = (stream.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
    expected = (part / root * norm.weight) @ model.lm_head.weight.T
    torch.testing.assert_close(FrozenHead(model, stream)(part), expected, rtol=1e-4, atol=1e-6)


def test_the_planted_answer_is_written_by_its_block_alone() -> None:
    planted = two_hop(1, 3, 5)
    found = direct_logits(planted.model, planted.prompts, planted.answers.tolist())
    table = found.table
    writer = (table["part"] == "mlp") & (table["layer"] == 5)
    assert table[writer]["value"].iloc[0] == pytest.approx(table["total"].iloc[0], abs=0.01)
    assert table[~writer]["value"].abs().max() < 0.01
    assert table["error"].iloc[0] < 1e-5
    assert "mlp 5" in found.answer()
    with torch.no_grad():
        logits = planted.model(planted.prompts).logits[:, -1]
    above = logits[range(6), planted.answers] - logits.mean(1)
    assert table["total"].iloc[0] == pytest.approx(float(above.mean()), rel=1e-5)


def test_sublayers_add_up_with_sandwich_and_parallel_blocks(tmp_path: Any) -> None:
    for name in ("gemma3", "gpt_neox", "olmo2"):
        model = families.build(name)
        ids = families.batch(name)["input_ids"]  # type: ignore[call-overload]
        found = direct_logits(model, ids, [5, 6])
        assert found.table["error"].iloc[0] < 1e-5
        assert found.table["value"].sum() == pytest.approx(found.table["total"].iloc[0], abs=1e-5)
        assert set(found.table["part"]) == {"embed", "attention", "mlp", "bias"}
    again = Finding.load(found.save(tmp_path / "direct"))
    assert isinstance(again, DirectLogitsFinding)
    assert again.answer() == found.answer()
    heights = np.concatenate([bar.y for bar in again.figure().data])
    assert heights.sum() == pytest.approx(found.table["total"].iloc[0], abs=1e-5)


def test_prompts_of_lengths_of_their_own_count_one_by_one() -> None:
    model = families.build("llama")
    prompts, answers = [[5, 6, 7], [8, 9]], [11, 12]
    both = direct_logits(model, prompts, answers).table
    each = [direct_logits(model, [p], [a]).table for p, a in zip(prompts, answers, strict=True)]
    mean = (each[0]["value"] + each[1]["value"]) / 2
    assert both["value"].to_numpy() == pytest.approx(mean.to_numpy(), abs=1e-6)


def test_of_several_answers_the_likeliest_is_read() -> None:
    model: Any = families.build("llama")
    with torch.no_grad():
        order = model(torch.tensor([[5, 6, 7]])).logits[0, -1].argsort(descending=True).tolist()
    best = direct_logits(model, [[5, 6, 7]], [order[0]])
    found = direct_logits(model, [[5, 6, 7]], [[[order[9]], [order[0]]]])
    assert found.table["total"].iloc[0] == pytest.approx(best.table["total"].iloc[0])
    assert any("1 prompts have several right answers" in note for note in found.notes)


def test_a_soft_cap_is_refused() -> None:
    model = families.build("gemma2")
    ids = families.batch("gemma2")["input_ids"]  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="no linear function of the normed stream"):
        direct_logits(model, ids, [5, 6])


def test_a_norm_of_another_kind_is_refused() -> None:
    class Squash(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(families.WIDTH))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x) * self.weight

    model: Any = families.build("llama")
    model.model.norm = Squash()
    ids = families.batch("llama")["input_ids"]  # type: ignore[call-overload]
    stream = residuals(model, ids)[-1, :, -1]
    with pytest.raises(ValueError, match=r"does more than rescale|no linear function"):
        FrozenHead(model, stream)
