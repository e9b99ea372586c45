"""Frozen lenses: applied, saved and loaded."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from layerscope.analyses.lenses.translators import AffineLens, LogitLens


@pytest.fixture
def lens() -> AffineLens:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 5, 5, generator=generator)
    return AffineLens(weight, torch.randn(3, 5, generator=generator), "tuned", {"steps": 4})


def test_the_map_is_h_plus_weight_h_plus_bias(lens) -> None:
    states = torch.randn(2, 7, 5)
    found = lens(states, 1)
    for b in range(2):
        for p in range(7):
            h = states[b, p]
            torch.testing.assert_close(found[b, p], h + lens.weight[1] @ h + lens.bias[1])
    assert lens(states, 3) is states  # the last residual


def test_zeros_are_the_logit_lens_bit_for_bit() -> None:
    zero, plain = AffineLens.zeros(3, 5), LogitLens()
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        states = (100 * torch.randn(64, 5)).to(dtype)
        for index in range(4):
            assert torch.equal(zero(states, index), plain(states, index))
            assert zero(states, index).dtype == dtype


def test_half_precision_is_rounded_once(lens) -> None:
    states = torch.randn(9, 5).bfloat16()
    assert torch.equal(lens(states, 0), lens(states.float(), 0).bfloat16())


def test_another_models_states_are_refused(lens) -> None:
    with pytest.raises(ValueError, match="residuals 0 to 3 of width 5; got residual 4"):
        lens(torch.randn(2, 5), 4)
    with pytest.raises(ValueError, match="Was it fitted on another model"):
        lens(torch.randn(2, 6), 0)


def test_saved_and_loaded(lens, tmp_path) -> None:
    again = AffineLens.load(lens.save(tmp_path / "deep" / "lens.safetensors"))
    assert torch.equal(again.weight, lens.weight)
    assert torch.equal(again.bias, lens.bias)
    assert (again.kind, again.about) == ("tuned", {"steps": 4})


def test_files_that_are_no_lens(tmp_path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"no lens; give a file that AffineLens\.save wrote"):
        AffineLens.load(path)
    save_file({"weight": torch.zeros(1)}, path, {"layerscope.lens": json.dumps({"format": 99})})
    with pytest.raises(ValueError, match="another format than 1; fit the lens again"):
        AffineLens.load(path)
