"""Qwen-Scope: both matrices as in torch.nn.Linear, k in the name of a folder."""

from __future__ import annotations

import pytest
import torch

from layerscope.analyses.sae.formats.save_load import load

D, F, K = 12, 30, 4


@pytest.fixture
def written(tmp_path, draw, torched):
    arrays = {"W_enc": draw(F, D), "b_enc": draw(F), "W_dec": draw(D, F), "b_dec": draw(D)}
    path = tmp_path / f"SAE-Res-Qwen3-1.7B-Base-W32K-L0_{K}" / "layer7.sae.pt"
    path.parent.mkdir()
    torch.save(torched(arrays), path)
    return path, arrays


def forward(x, a, top):
    f = top(x @ a["W_enc"].T + a["b_enc"], K)
    return f, f @ a["W_dec"].T + a["b_dec"]


def test_forward(written, x, top, agrees) -> None:
    path, arrays = written
    for place in (path, path.parent):
        sae = load(place)
        agrees(sae, x, *forward(x, arrays, top))
    assert (sae.k, sae.site) == (K, "blocks.7.resid_post")


def test_k_elsewhere_must_be_given(written, tmp_path, x, top, agrees) -> None:
    path, arrays = written
    moved = path.rename(tmp_path / path.name)
    with pytest.raises(ValueError, match=r"does not hold k, .* pass k="):
        load(moved)
    agrees(load(moved, k=K), x, *forward(x, arrays, top))


def test_a_misshapen_key_is_named(written, torched) -> None:
    path, arrays = written
    torch.save(torched(arrays | {"W_dec": arrays["W_dec"].T}), path)
    with pytest.raises(ValueError, match=r"layer7\.sae\.pt: 'W_dec' has shape \[30, 12\]"):
        load(path)
