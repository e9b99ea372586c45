"""Llama Scope: two scales, a decoder of any norm, and a threshold that belongs to raw units."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from layerscope.analyses.sae.formats.save_load import load

D, F, OUT, THETA = 12, 30, 12, 0.4
CONFIG = {
    "d_model": D,
    "d_sae": F,
    "hook_point_in": "blocks.8.hook_resid_post",
    "hook_point_out": "blocks.8.hook_resid_post",
    "act_fn": "jumprelu",
    "jump_relu_threshold": THETA,
    "norm_activation": "dataset-wise",
    "dataset_average_activation_norm": {"in": 6.3125, "out": 6.3125},
    "sparsity_include_decoder_norm": True,
    "apply_decoder_bias_to_pre_encoder": False,
    "use_decoder_bias": True,
    "top_k": 50,
}


@pytest.fixture
def arrays(draw) -> dict:
    return {
        "encoder.weight": draw(F, D),
        "encoder.bias": draw(F),
        "decoder.weight": draw(D, F),
        "decoder.bias": draw(D),
    }


@pytest.fixture
def write(tmp_path, torched):
    def make(arrays, **changes):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "hyperparams.json").write_text(json.dumps(CONFIG | changes))
        save_file(torched(arrays), tmp_path / "checkpoints" / "final.safetensors")
        return tmp_path

    return make


def forward(x, a, config):
    """lm_saes, state "inference": standardize_parameters_of_dataset_norm, then
    transform_to_unit_decoder_norm, then JumpReLU with the published threshold."""
    norms = config["dataset_average_activation_norm"]
    incoming, outgoing = np.sqrt(D) / norms["in"], np.sqrt(D) / norms["out"]
    encoder, bias = a["encoder.weight"].T, a["encoder.bias"] / incoming
    decoder = a["decoder.weight"].T * incoming / outgoing
    b_dec = a["decoder.bias"] / outgoing
    if config["sparsity_include_decoder_norm"]:
        lengths = np.linalg.norm(decoder, axis=1)
        encoder, bias, decoder = encoder * lengths, bias * lengths, decoder / lengths[:, None]
    rows = x - b_dec if config["apply_decoder_bias_to_pre_encoder"] else x
    pre = rows @ encoder + bias
    f = pre * (pre > config["jump_relu_threshold"])
    return f, f @ decoder + b_dec


@pytest.mark.parametrize("ranked", [True, False])
@pytest.mark.parametrize(("subtracts", "out"), [(False, 6.3125), (True, 6.3125), (False, 3.390625)])
def test_forward(write, arrays, x, agrees, ranked, subtracts, out) -> None:
    changes = {
        "sparsity_include_decoder_norm": ranked,
        "apply_decoder_bias_to_pre_encoder": subtracts,
        "dataset_average_activation_norm": {"in": 6.3125, "out": out},
    }
    sae = load(write(arrays, **changes))
    agrees(sae, x, *forward(x, arrays, CONFIG | changes))


def test_active_latents_and_reconstruction_are_those_of_saelens(write, arrays, x) -> None:
    """SAELens keeps scaled codes (threshold times c), of a decoder with norm 1."""
    arrays["decoder.weight"] /= np.linalg.norm(arrays["decoder.weight"], axis=0)
    sae = load(write(arrays))
    c = np.sqrt(D) / 6.3125
    pre = x @ (arrays["encoder.weight"].T * c) + arrays["encoder.bias"]
    f = np.maximum(pre, 0) * (pre > THETA * c)
    x_hat = f @ (arrays["decoder.weight"].T / c) + arrays["decoder.bias"] / c
    rows = torch.from_numpy(x.astype(np.float32))
    np.testing.assert_allclose(sae.encode(rows).numpy() * c, f, atol=1e-5)
    np.testing.assert_allclose(sae(rows).numpy(), x_hat, atol=1e-5)


def test_sites(write, arrays) -> None:
    sae = load(write(arrays, hook_point_out="blocks.8.hook_mlp_out"))
    assert (sae.site, sae.target) == ("blocks.8.resid_post", "blocks.8.mlp_out")


def test_without_a_decoder_bias(write, arrays) -> None:
    del arrays["decoder.bias"]
    assert load(write(arrays, use_decoder_bias=False)).b_dec.count_nonzero() == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"act_fn": "topk"}, "'act_fn' is 'topk'"),
        ({"norm_activation": "token-wise"}, "'norm_activation' is 'token-wise'"),
        ({"use_glu_encoder": True}, "'use_glu_encoder' is set"),
        ({"dataset_average_activation_norm": {"in": 1.0}}, "hyperparams.json: no key 'out'"),
    ],
)
def test_what_cannot_be_read(write, arrays, changes, words) -> None:
    with pytest.raises(ValueError, match=words):
        load(write(arrays, **changes))


def test_a_missing_key_is_named(write, arrays) -> None:
    del arrays["encoder.bias"]
    with pytest.raises(ValueError, match=r"final\.safetensors: no key 'encoder\.bias'"):
        load(write(arrays))
