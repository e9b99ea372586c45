"""Gemma Scope's params.npz, and params.safetensors of Gemma Scope 2."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.torch import save_file

from layerscope.analyses.sae.formats.save_load import load

D, F, OUT = 12, 30, 8


@pytest.fixture
def arrays(draw) -> dict:
    return {
        "W_enc": draw(D, F),
        "b_enc": draw(F),
        "W_dec": draw(F, D),
        "b_dec": draw(D),
        "threshold": np.abs(draw(F)),
    }


def forward(x, a):
    pre = x @ a["W_enc"] + a["b_enc"]
    f = np.maximum(pre, 0) * (pre > a["threshold"])
    return f, f @ a["W_dec"] + a["b_dec"]


def write_npz(folder, arrays):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "params.npz", **{k: v.astype(np.float32) for k, v in arrays.items()})
    return folder


def test_npz(tmp_path, arrays, x, agrees) -> None:
    folder = write_npz(tmp_path / "layer_20" / "width_16k", arrays)
    for path in (folder, folder / "params.npz"):
        sae = load(path)
        agrees(sae, x, *forward(x, arrays))
        assert not sae.subtract_b_dec


@pytest.mark.parametrize(
    ("folder", "site"),
    [
        ("gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71", "blocks.20.resid_post"),
        ("gemma-scope-2b-pt-mlp/layer_3/width_16k/average_l0_71", "blocks.3.mlp_out"),
        ("gemma-scope-2b-pt-att/layer_3/width_16k/average_l0_71", "blocks.3.z"),
        ("gemma-scope-2b-pt-transcoders/layer_3/width_16k/average_l0_71", ""),
        ("somewhere", ""),
    ],
)
def test_site_by_folder(tmp_path, arrays, folder, site) -> None:
    assert load(write_npz(tmp_path / folder, arrays)).site == site


def test_safetensors_of_the_second_scope(tmp_path, arrays, x, agrees, torched, draw) -> None:
    """Keys in small letters; an affine connection passes the input by, [d_in, d_out]."""
    a = arrays | {"W_dec": draw(F, OUT), "b_dec": draw(OUT)}
    skip = draw(D, OUT)
    entries = {k.replace("W_", "w_"): v for k, v in a.items()} | {"affine_skip_connection": skip}
    save_file(torched(entries), tmp_path / "params.safetensors")
    about = {
        "architecture": "jump_relu",
        "model_name": "gemma-v3-1b-pt",
        "hf_hook_point_in": "model.layers.7.pre_feedforward_layernorm.output",
        "hf_hook_point_out": "model.layers.7.output",
    }
    (tmp_path / "config.json").write_text(json.dumps(about))
    sae = load(tmp_path)
    f, x_hat = forward(x, a)
    agrees(sae, x, f, x_hat + x @ skip)
    assert sae.site == "model.layers.7.pre_feedforward_layernorm"
    assert (sae.target, sae.about["model"]) == ("blocks.7.resid_post", "gemma-v3-1b-pt")


def test_attention_inputs_are_module_inputs(tmp_path, arrays, torched) -> None:
    save_file(torched(arrays), tmp_path / "params.safetensors")
    about = {"hf_hook_point_in": "model.layers.7.self_attn.o_proj.input"}
    (tmp_path / "config.json").write_text(json.dumps(about))
    assert load(tmp_path, "gemma_scope").site == "model.layers.7.self_attn.o_proj:in"


def test_a_threshold_below_zero_is_a_relu(tmp_path, arrays, x, agrees) -> None:
    arrays["threshold"] -= 0.5
    agrees(load(write_npz(tmp_path, arrays)), x, *forward(x, arrays))


@pytest.mark.parametrize("key", ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"])
def test_missing_and_misshapen_keys_are_named(tmp_path, arrays, draw, key) -> None:
    folder = write_npz(tmp_path / "missing", {k: v for k, v in arrays.items() if k != key})
    with pytest.raises(ValueError, match=rf"params\.npz: no key '{key}'"):
        load(folder)
    folder = write_npz(tmp_path / "misshapen", arrays | {key: draw(2, 3, 4)})
    with pytest.raises(ValueError, match=rf"params\.npz: '{key}' has shape \[2, 3, 4\]"):
        load(folder)
