"""Attribution patching: exact where all is linear, and honest where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from layerscope.analyses.attribution_patching import attribution_patching
from layerscope.analyses.patches.attribution_patching_finding import (
    AttributionPatchingFinding,
    agreement,
)
from layerscope.analyses.patching import patching
from layerscope.demo import load_model, load_tokenizer
from layerscope.hooks.anatomy import anatomy
from layerscope.planted.linear_decoder import linear_decoder
from layerscope.planted.two_hop import two_hop

SITES = ("resid_pre", "resid_mid", "attn_out", "mlp_out")
STEP = 3e-3
"""Of the way from the corrupt run to the clean one; Llama's norms round to float32."""


def linear() -> tuple[Any, ...]:
    model = linear_decoder()
    ids = torch.randint(0, 11, (3, 5), generator=torch.Generator().manual_seed(0))
    anatomy(model, example={"input_ids": ids})
    return model, ids, ids.flip(0), [1, 2, 3], [4, 5, 6]


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_exact_where_all_that_follows_is_linear(direction: str) -> None:
    given = linear()
    finding = attribution_patching(
        *given, sites=SITES, direction=direction, check=1.0, progress=False
    )
    true = patching(*given, sites=SITES, direction=direction, progress=False)
    assert finding.table["value"].to_numpy() == pytest.approx(
        true.table["value"].to_numpy(), abs=2e-13
    )
    assert finding.table["exact"].to_numpy() == pytest.approx(true.table["value"].to_numpy())
    assert finding.table["metric"].to_numpy() == pytest.approx(true.table["metric"].to_numpy())
    pearson, spearman = agreement(finding.table)
    assert pearson == pytest.approx(1.0, abs=1e-12)
    assert spearman == pytest.approx(1.0, abs=1e-3)


def test_the_estimate_is_the_slope_of_a_small_step() -> None:
    """A small step of the corrupt run towards the clean one moves the metric by the estimate."""
    model, tokenizer = load_model().double(), load_tokenizer()
    clean = tokenizer(["The city of the friend of Anna is"], return_tensors="pt")["input_ids"]
    corrupt = tokenizer(["The city of the friend of Bert is"], return_tensors="pt")["input_ids"]
    finding = attribution_patching(
        model, clean, corrupt, [300], [301], sites=("resid_pre", "mlp_out", "z", "v"), positions=[7, 8],
        check=0, progress=False,
    )  # fmt: skip
    from layerscope.hooks import edits
    from layerscope.hooks.capture import capture

    def metric(logits: Any) -> float:
        last = logits[0, -1]
        return float(last[300] - last[301])

    with torch.no_grad():
        for row in finding.table.iloc[::11].itertuples():
            seen = []
            for ids in (clean, corrupt):
                with capture(model, row.site) as held:
                    model(input_ids=ids)
                seen.append(held[row.site])
            step = STEP * (seen[0] - seen[1])
            at = int(row.token)
            heads = [row.head] if row.kind in "zv" else None
            part = step[:, heads, at : at + 1] if row.kind == "v" else step[:, at : at + 1]
            part = part[:, :, heads] if row.kind == "z" else part
            moved = []
            for sign in (1, -1):
                with edits.edit(model, {row.site: edits.add(sign * part, at=at, heads=heads)}):
                    moved.append(metric(model(input_ids=corrupt).logits))
            estimate = row.metric - row.corrupt
            slope = (moved[0] - moved[1]) / (2 * STEP)
            assert estimate == pytest.approx(slope, rel=5e-3, abs=2e-3)


def test_heads_and_their_inputs_of_p2h() -> None:
    planted = two_hop(1, 3, 5)
    answers = planted.answers
    finding = attribution_patching(
        planted.model,
        planted.prompts,
        planted.prompts.roll(1, 0),
        answers.tolist(),
        answers.roll(1).tolist(),
        sites=("z", "v", "k", "q"),
        check=1.0,
        progress=False,
    )
    for row in finding.table.itertuples():
        used = row.layer == planted.copy and row.kind in "zv"
        assert row.value == pytest.approx(float(used), abs=5e-3)
        assert row.exact == pytest.approx(float(used), abs=1e-4)


def test_two_forward_passes_and_one_backward() -> None:
    model, *given = linear()
    passes = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    attribution_patching(model, *given, sites="resid_pre", check=0, progress=False)
    handle.remove()
    looks = 3  # whether it reads forwards only, what the sites' shapes are
    finding = attribution_patching(model, *given, sites="resid_pre", check=0, progress=False)
    assert len(passes) <= 2 + looks
    assert finding.provenance.parameters["layer_evaluations"] == 4 * 4 * 3
    assert finding.provenance.parameters["layer_evaluations_of_checks"] == 0


@pytest.mark.parametrize(("check", "count"), [(None, 30), (0.5, 40), (7, 7), (0, 0), (1000, 80)])
def test_how_many_cells_are_checked(check: Any, count: int) -> None:
    finding = attribution_patching(*linear(), sites=SITES, check=check, progress=False)
    assert len(finding.table) == 80
    assert int(finding.table["exact"].notna().sum()) == count


def test_gradients_are_off_and_weights_untouched_afterwards() -> None:
    model, *given = linear()
    attribution_patching(model, *given, check=0, progress=False)
    assert all(p.grad is None for p in model.parameters())


def test_the_finding_speaks_and_survives_saving(tmp_path: Any) -> None:
    finding = attribution_patching(*linear(), progress=False)
    assert "Against 30 true patches: Pearson 1.00" in finding.answer()
    again = AttributionPatchingFinding.load(finding.save(tmp_path / "attribution"))
    assert again.answer() == finding.answer()
    assert again.figure().to_json() == finding.figure().to_json()
    unchecked = attribution_patching(*linear(), check=0, progress=False)
    assert "Too few cells were patched" in unchecked.answer()
    assert np.isnan(unchecked.table["exact"]).all()
    unchecked.figure()


def test_bad_input_is_refused() -> None:
    given = linear()
    with pytest.raises(ValueError, match="metric='kl' has no gradient"):
        attribution_patching(*given, metric="kl", progress=False)
    with pytest.raises(ValueError, match="a share or a number of cells, got -1"):
        attribution_patching(*given, check=-1, progress=False)
    with pytest.raises(ValueError, match="direction is 'denoise', 'noise'"):
        attribution_patching(*given, direction="up", progress=False)
