"""What `train` gives for each architecture is what comes back from disk."""

from __future__ import annotations

import warnings

import pytest
import torch

from layerscope.analyses.sae import load, save, train

D, WIDTH = 16, 32
KINDS = (
    "topk",
    "batchtopk",
    "matryoshka",
    "jumprelu",
    "gated",
    "relu",
    "relu_april",
    "afa",
    "transcoder",
    "crosscoder",
)


def rows() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(600, D, generator=generator) * torch.linspace(0.5, 2, D) + 3
    second = first @ torch.randn(D, D, generator=generator) / 4
    return {"blocks.1.resid_post": first, "blocks.2.resid_post": second}


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind, tmp_path) -> None:
    data, options = rows(), {}
    one, two = data
    if kind == "transcoder":
        options = {"target": two}
    site = [one, two] if kind == "crosscoder" else one
    if kind in ("topk", "batchtopk", "matryoshka", "jumprelu", "transcoder"):
        options["k"] = 4
    sae = train(
        data,
        site,
        architecture=kind,
        width=WIDTH,
        tokens=3000,
        batch=100,
        progress=False,
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if kind == "afa" else "error")
        found = load(save(sae, tmp_path))
    x = torch.cat([data[one], data[two]], dim=1) if kind == "crosscoder" else data[one]
    assert torch.equal(found.encode(x), sae.encode(x))
    assert torch.equal(found(x), sae(x))
    assert (found.about, found.parts) == (sae.about, sae.parts)
    assert found.statistics is not None
    assert found.statistics.mean_norm == sae.statistics.mean_norm
