"""Readouts of every kind that reads a label from rows: saved, loaded, applied, refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.probes.fitting import fit
from layerscope.probes.kinds import MLP, Concepts, LowRank, Prototypes
from layerscope.probes.readouts.linear import LinearReadout
from layerscope.probes.readouts.mlp import MLPReadout
from layerscope.probes.readouts.readout import Readout

KINDS = {
    "ridge": "ridge",
    "mass_mean": "mass_mean",
    "lda": "lda",
    "low_rank": LowRank(rank=1),
    "mlp": MLP(hidden=8, batch=32),
    "prototypes": Prototypes(count=6, restarts=2),
    "concepts": Concepts(directions=torch.eye(5), names=("a", "b", "c", "d", "e")),
    "search": Concepts(directions=torch.eye(5), matrix=torch.eye(5)[:3]),
}


@pytest.fixture(scope="module")
def rows():
    """Three classes, each along a feature of its own; one feature is constant."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    x = torch.randn(300, 5, generator=generator) + 3 * torch.nn.functional.one_hot(y, 5)
    x[:, 4] = 2.0
    return x * 10 + 4, [("red", "green", "blue")[i] for i in y.tolist()]


@pytest.mark.parametrize("name", KINDS)
def test_saved_and_loaded(rows, name, tmp_path) -> None:
    x, y = rows
    readout = fit(x, y, kind=KINDS[name])
    again = Readout.load(readout.save(tmp_path / "readout.safetensors"))
    assert type(again) is type(readout)
    assert torch.equal(again(x), readout(x))
    assert again.classes == ("blue", "green", "red")
    assert again.predict(x) == readout.predict(x)
    for field in ("rows", "own", "concepts", "search", "l1", "l2"):
        assert getattr(again, field, None) == getattr(readout, field, None), field


@pytest.mark.parametrize("name", KINDS)
def test_applied(rows, name) -> None:
    x, y = rows
    readout = fit(x, y, kind=KINDS[name])
    right = np.mean([a == b for a, b in zip(readout.predict(x), y, strict=True)])
    assert right > (0.6 if name == "low_rank" else 0.85) or name == "search"
    assert readout(x.view(10, 30, 5)).shape == (10, 30, 3)
    assert readout.width == 5
    torch.testing.assert_close(readout(x[:4].double()), readout(x[:4]))
    with pytest.raises(ValueError, match=r"trained at width 5, got \[2, 4\]"):
        readout(torch.zeros(2, 4))


def test_a_file_of_another_kind(rows, tmp_path) -> None:
    path = fit(*rows, kind=MLP(hidden=4, epochs=2)).save(tmp_path / "mlp.safetensors")
    with pytest.raises(ValueError, match="holds a MLPReadout, not a LinearReadout"):
        LinearReadout.load(path)
    assert MLPReadout.load(path).kind == "mlp"
