"""Frozen readouts: applied, saved and loaded."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from layerscope.probes.readouts.linear import LinearReadout


@pytest.fixture
def readout() -> LinearReadout:
    return LinearReadout(
        weight=torch.tensor([[1.0, 0.0], [0.0, 2.0]]),
        bias=torch.tensor([0.0, 1.0]),
        mean=torch.tensor([10.0, 0.0]),
        scale=torch.tensor([2.0, 1.0]),
        classes=("left", "right"),
        site="blocks.1.resid_post",
        label="side",
        l2=10.0,
        about={"rows": 5},
    )


def test_scores_classes_and_probabilities(readout) -> None:
    x = torch.tensor([[14.0, 0.0], [10.0, 1.0]])
    torch.testing.assert_close(readout(x), torch.tensor([[2.0, 1.0], [0.0, 3.0]]))
    torch.testing.assert_close(readout(x.bfloat16()), readout(x))
    assert readout.predict(x) == ["left", "right"]
    torch.testing.assert_close(readout.probabilities(x).sum(-1), torch.ones(2))
    torch.testing.assert_close(readout.directions, torch.tensor([[0.5, 0.0], [0.0, 2.0]]))


def test_saved_and_loaded(readout, tmp_path) -> None:
    again = LinearReadout.load(readout.save(tmp_path / "deep" / "readout.safetensors"))
    x = torch.randn(5, 2)
    assert torch.equal(again(x), readout(x))
    for name in ("classes", "site", "label", "l2", "about"):
        assert getattr(again, name) == getattr(readout, name)


def test_files_that_are_no_readout(tmp_path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(
        ValueError, match=r"no readout; give a file that a readout's save\(\) wrote"
    ):
        LinearReadout.load(path)
    save_file({"weight": torch.zeros(1)}, path, {"layerscope.readout": json.dumps({"format": 99})})
    with pytest.raises(ValueError, match="another format than 2; train the readout again"):
        LinearReadout.load(path)
