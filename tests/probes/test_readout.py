"""Frozen readouts: applied, saved and loaded."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from layerscope.probes.readouts.centroids import CentroidReadout
from layerscope.probes.readouts.layer_mix import LayerMixReadout
from layerscope.probes.readouts.linear import LinearReadout
from layerscope.probes.readouts.pooled import PooledReadout


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


def test_one_row_is_one_class_and_further_dimensions_are_nested(readout) -> None:
    x = torch.tensor([[14.0, 0.0], [10.0, 1.0]])
    assert readout.predict(x[0]) == "left"
    assert readout.predict(x[None]) == [["left", "right"]]
    assert readout.predict(x[:, None]) == [["left"], ["right"]]
    assert readout.predict(x[:0]) == []
    number = replace(readout, classes=())
    assert number.predict(x[0]).item() == 2.0
    assert number.predict(x[None]).shape == (1, 2)


def test_one_text_one_stack_of_layers_and_one_trace_are_one_class(readout) -> None:
    words = {
        name: getattr(readout, name) for name in ("weight", "bias", "mean", "scale", "classes")
    }
    pooled = PooledReadout(**words, pooling="mean")
    tokens = torch.tensor([[14.0, 0.0], [16.0, 0.0]])
    assert pooled.predict(tokens) == "left"
    assert pooled.predict(tokens[None]) == ["left"]
    mixed = LayerMixReadout(
        weights=torch.tensor([0.5, 0.5]),
        mean=torch.zeros(2, 2),
        scale=torch.ones(2, 2),
        head=torch.eye(2),
        bias=torch.zeros(2),
        classes=(10, 20),
    )
    assert mixed.predict(torch.tensor([[0.0, 1.0], [1.0, 3.0]])) == 20
    cores = CentroidReadout(
        centroids=torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]),
        scale=torch.ones(1),
        weights=torch.ones(1),
        classes=(False, True),
    )
    assert cores.predict(torch.tensor([[0.9, 0.8]])) is True
