"""SAELens itself, where an interpreter has it: it loads what we write, and we what it writes.

``LAYERSCOPE_SAELENS_PYTHON`` names that interpreter; without it these tests are skipped.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from layerscope.analyses.sae import SAE, load, save, train

PEER = os.environ.get("LAYERSCOPE_SAELENS_PYTHON")
SCRIPT = Path(__file__).with_name("saelens_peer.py")
pytestmark = [
    pytest.mark.skipif(not PEER, reason="LAYERSCOPE_SAELENS_PYTHON names no interpreter"),
    pytest.mark.xdist_group("saelens_peer"),
]


def _peer() -> Any:
    spec = importlib.util.spec_from_file_location("saelens_peer", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peer = _peer()
D_IN, LATENTS, D_OUT, K = peer.D_IN, peer.LATENTS, peer.D_OUT, peer.K


def ours() -> dict[str, SAE]:
    """One of each kind that SAELens can load."""
    torch.manual_seed(1)

    def weights(d_out: int = D_IN) -> tuple[torch.Tensor, ...]:
        shapes = ((D_IN, LATENTS), (LATENTS,), (LATENTS, d_out), (d_out,))
        return tuple(0.4 * torch.randn(shape) for shape in shapes)

    positive = torch.rand(LATENTS)
    crossing = {"subtract_b_dec": False, "about": {"site": "blocks.1.resid_mid", "target": "t"}}
    gates = {"r_mag": 0.3 * torch.randn(LATENTS), "b_mag": 0.3 * torch.randn(LATENTS)}
    skip = torch.randn(D_IN, D_OUT)
    jump = {"activation": "jumprelu", "threshold": positive}
    found = {
        "standard": SAE(*weights()),
        "standard, b_dec not subtracted": SAE(*weights(), subtract_b_dec=False),
        "topk": SAE(*weights(), activation="topk", k=K),
        "topk, layer norm": SAE(*weights(), activation="topk", k=K, normalise="layer_norm"),
        "standard, constant norm": SAE(*weights(), normalise="constant_norm"),
        "jumprelu": SAE(*weights(), **jump),
        "gated": SAE(*weights(), activation="gated", **gates),
        "crosscoder": SAE(*weights(), subtract_b_dec=False, parts=(10, 6)),
        "transcoder": SAE(*weights(D_OUT), **crossing),
        "transcoder that subtracts": SAE(*weights(), about=crossing["about"]),
        "topk transcoder": SAE(*weights(), activation="topk", k=K, **crossing),
        "skip transcoder": SAE(*weights(D_OUT), W_skip=skip, **crossing),
        "jumprelu transcoder": SAE(*weights(D_OUT), **jump, **crossing),
        "jumprelu skip transcoder": SAE(*weights(D_OUT), **jump, W_skip=skip, **crossing),
    }
    return found


TRAINED = (
    "topk",
    "batchtopk",
    "matryoshka",
    "jumprelu",
    "gated",
    "relu",
    "relu_april",
    "transcoder",
)
NAMES = (*sorted(ours()), *(f"trained {kind}" for kind in TRAINED))


def trained(kind: str, x: torch.Tensor) -> SAE:
    """After a few steps of `train`, whitened, so that every scale is folded."""
    few = {"tokens": 2000, "batch": 64, "width": LATENTS, "scaling": "whiten", "progress": False}
    if kind not in ("gated", "relu", "relu_april"):
        few["k"] = K
    if kind == "transcoder":
        return train({"a": x, "b": x.flip(1)}, "a", target="b", architecture=kind, **few)
    return train({"a": x}, "a", architecture=kind, **few)


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("saelens")
    torch.manual_seed(2)
    x = 1.5 * torch.randn(256, D_IN) * torch.linspace(0.2, 2, D_IN) + torch.randn(D_IN)
    save_file({"x": x}, folder / "rows.safetensors")
    made = ours() | {f"trained {kind}": trained(kind, x) for kind in TRAINED}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, sae in made.items():
            save(sae, folder / "ours" / name)
    assert PEER is not None
    done = subprocess.run([PEER, SCRIPT, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def compare(sae: SAE, folder: Path) -> None:
    x = load_file(folder.parents[1] / "rows.safetensors")["x"]
    expected = load_file(folder / peer.EXPECTED)
    codes = sae.encode(x)
    assert 0.005 < (codes != 0).float().mean() < 0.7
    torch.testing.assert_close(codes, expected["codes"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae(x), expected["reconstruction"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_saelens_loads_what_we_write(name: str, exchanged: Path) -> None:
    compare(load(exchanged / "ours" / name), exchanged / "ours" / name)


@pytest.mark.parametrize("name", sorted(peer.USED))
def test_we_load_what_saelens_uses(name: str, exchanged: Path) -> None:
    compare(load(exchanged / "theirs" / f"used-{name}"), exchanged / "theirs" / f"used-{name}")


@pytest.mark.parametrize("architecture", peer.EXPORTED)
def test_we_load_what_saelens_exports(architecture: str, exchanged: Path) -> None:
    folder = exchanged / "theirs" / f"exported-{architecture}"
    sae = load(folder)
    assert sae.about["architecture"] == architecture
    compare(sae, folder)


@pytest.mark.parametrize("case", peer.checkpoints(), ids=lambda case: "-".join(map(str, case)))
def test_we_load_what_saelens_trains(case: tuple[str, str, bool, bool], exchanged: Path) -> None:
    folder = exchanged / "theirs" / "-".join(map(str, case))
    sae = load(folder)
    assert sae.about["architecture"] == case[0]
    compare(sae, folder)
