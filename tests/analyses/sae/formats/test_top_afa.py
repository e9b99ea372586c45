"""Checkpoints of top-afa-sae: sae.pt and config.json, by the forward passes of training/sae.py."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.formats.save_load import load

D, F, K = 12, 30, 4


@pytest.fixture
def write(tmp_path, draw, torched):
    def make(sae_type: str, *, unit_norm: bool = True, **changes):
        arrays = {"W_enc": draw(D, F), "b_enc": draw(F), "W_dec": draw(F, D), "b_dec": draw(D)}
        if sae_type == "jumprelu":
            arrays["jumprelu.log_threshold"] = draw(F) - 1
        config = {
            "sae_type": sae_type,
            "top_k": K,
            "input_unit_norm": unit_norm,
            "hook_point": "blocks.8.hook_resid_pre",
            "model_name": "gpt2-small",
        }
        torch.save(torched(arrays), tmp_path / "sae.pt")
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        return tmp_path, arrays

    return make


def forward(kind, x, a, top, *, unit_norm):
    mean, sd = 0.0, 1.0
    if unit_norm:
        mean, sd = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True)
        x = (x - mean) / (sd + 1e-5)
    f = {"topk": topk, "topafa": topafa, "vanilla": vanilla, "jumprelu": jumprelu}[kind](x, a, top)
    return f, (f @ a["W_dec"] + a["b_dec"]) * sd + mean


def topk(x, a, top):
    return top(np.maximum((x - a["b_dec"]) @ a["W_enc"], 0), K)


def vanilla(x, a, top):
    return np.maximum((x - a["b_dec"]) @ a["W_enc"] + a["b_enc"], 0)


def jumprelu(x, a, top):
    acts = np.maximum(x @ a["W_enc"] + a["b_enc"], 0)
    return acts * (acts > np.exp(a["jumprelu.log_threshold"]))


def topafa(x, a, top):
    """Row by row: as many as bring the norm of the codes nearest to that of the centred row."""
    centred = x - a["b_dec"]
    acts = np.maximum(centred @ a["W_enc"], 0)
    kept = np.zeros_like(acts)
    for row, (target, values) in enumerate(zip(np.linalg.norm(centred, axis=1), acts, strict=True)):
        scaled = (values * np.linalg.norm(a["W_dec"], axis=1)) ** 2
        order = np.argsort(-scaled)
        reached = np.cumsum(scaled[order])
        reached[-1] = 1e8
        number = np.abs(np.sqrt(reached) - target).argmin() + 1
        kept[row, order[:number]] = values[order[:number]]
    return kept


@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("kind", ["topk", "topafa", "vanilla", "jumprelu"])
def test_forward(write, x, top, agrees, kind, unit_norm) -> None:
    folder, arrays = write(kind, unit_norm=unit_norm)
    sae = load(folder)
    agrees(sae, x, *forward(kind, x, arrays, top, unit_norm=unit_norm))
    assert (sae.site, sae.about["model"]) == ("blocks.8.resid_pre", "gpt2-small")


def test_batch_topk_has_no_threshold_to_be_used_with(write, x, top, agrees) -> None:
    folder, arrays = write("batchtopk")
    with pytest.raises(ValueError, match=r"stores no threshold, .* Pass k=4 to read it as TopK"):
        load(folder)
    agrees(load(folder, k=K), x, *forward("topk", x, arrays, top, unit_norm=True))


def test_an_unknown_kind_is_said(write) -> None:
    with pytest.raises(ValueError, match=r"config\.json: 'sae_type' is 'mystery'; there are topk"):
        load(write("mystery")[0])


def test_a_missing_key_is_named(write, torched) -> None:
    folder, arrays = write("topk")
    del arrays["b_dec"]
    torch.save(torched(arrays), folder / "sae.pt")
    with pytest.raises(ValueError, match=r"sae\.pt: no key 'b_dec'; there is W_dec, W_enc, b_enc"):
        load(folder)
