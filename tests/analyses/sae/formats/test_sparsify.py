"""Folders of sparsify as it writes them today, and what other readers get wrong about them."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from layerscope.analyses.sae.formats.save_load import load

D, F, K = 12, 24, 4
CONFIG = {
    "activation": "topk",
    "expansion_factor": F // D,
    "normalize_decoder": True,
    "num_latents": 0,
    "k": K,
    "multi_topk": False,
    "skip_connection": False,
    "transcode": False,
    "d_in": D,
}


@pytest.fixture
def write(tmp_path, draw, torched):
    """``write(hookpoint, **changes)`` -> folder, arrays."""

    def make(hookpoint: str = "layers.10", weights=None, **changes):
        config = CONFIG | changes
        arrays = {
            "encoder.weight": draw(F, D),
            "encoder.bias": draw(F),
            "W_dec": draw(F, D),
            "b_dec": draw(D),
        }
        if config["skip_connection"]:
            arrays["W_skip"] = draw(D, D)
        folder = tmp_path / "run" / hookpoint
        folder.mkdir(parents=True)
        (folder / "cfg.json").write_text(json.dumps(config))
        save_file(torched(arrays | (weights or {})), folder / "sae.safetensors")
        return folder, arrays

    return make


def forward(x, a, top, *, transcode=False):
    """sparsify/sparse_coder.py: b_dec is subtracted unless it transcodes; W_dec is [F, d]."""
    pre = (x if transcode else x - a["b_dec"]) @ a["encoder.weight"].T + a["encoder.bias"]
    f = top(pre, K)
    x_hat = f @ a["W_dec"] + a["b_dec"]
    return f, x_hat + (x @ a["W_skip"].T if "W_skip" in a else 0)


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("transcode", [True, False])
@pytest.mark.parametrize("skip", [True, False])
def test_forward(write, x, top, agrees, normalized, transcode, skip) -> None:
    folder, arrays = write(normalize_decoder=normalized, transcode=transcode, skip_connection=skip)
    sae = load(folder)
    agrees(sae, x, *forward(x, arrays, top, transcode=transcode))
    assert sae.subtract_b_dec is not transcode


def test_zero_latents_means_the_factor(write) -> None:
    assert load(write(num_latents=0)[0]).n_latents == F


def test_a_number_of_latents_replaces_the_factor(write) -> None:
    assert load(write(num_latents=F, expansion_factor=32)[0]).n_latents == F


def test_a_wrong_number_of_latents_is_said(write) -> None:
    folder, _ = write(num_latents=99)
    with pytest.raises(ValueError, match=r"encoder\.weight' has 24 latents, cfg\.json says 99"):
        load(folder)


def test_the_decoder_is_not_transposed(write, torched) -> None:
    """[F, d] as it lies there: where the width equals the latents, shapes cannot tell."""
    folder, arrays = write()
    assert torch.equal(load(folder).W_dec, torched(arrays["W_dec"]))


@pytest.mark.parametrize(
    ("hookpoint", "site"),
    [
        ("layers.10", "blocks.10.resid_post"),
        ("h.3", "blocks.3.resid_post"),
        ("h.3.mlp", "blocks.3.mlp_out"),
        ("layers.5.self_attn", "blocks.5.attn_out"),
        ("gpt_neox.layers.0", "blocks.0.resid_post"),
        ("embed_tokens", "embed_tokens"),
    ],
)
def test_hookpoints(write, hookpoint, site) -> None:
    sae = load(write(hookpoint)[0])
    assert (sae.site, sae.target) == (site, site)
    assert sae.about["hookpoint"] == hookpoint


def test_a_transcoder_reads_the_input_of_its_module(write) -> None:
    sae = load(write("h.3.mlp", transcode=True)[0])
    assert (sae.site, sae.target) == ("h.3.mlp:in", "blocks.3.mlp_out")


def test_the_model_is_in_the_config_of_the_run(write) -> None:
    folder, _ = write()
    (folder.parent / "config.json").write_text('{"model": "gpt2", "dataset": "pile"}')
    assert load(folder).about["model"] == "gpt2"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"activation": "groupmax"}, "activation 'groupmax'"),
        ({"signed": True}, "'signed' is set, which keeps negative codes"),
        ({"embed_skip": True}, "'embed_skip' is set"),
    ],
)
def test_what_cannot_be_read(write, changes, words) -> None:
    with pytest.raises(ValueError, match=words):
        load(write(**changes)[0])


def test_a_misshapen_decoder_is_named(write, draw) -> None:
    folder, _ = write(weights={"W_dec": draw(D, F)})
    with pytest.raises(ValueError, match=r"sae\.safetensors: 'W_dec' has shape \[12, 24\]"):
        load(folder)


def test_half_precision_is_read_in_full(write, torched, draw) -> None:
    folder, arrays = write()
    save_file({k: v.bfloat16() for k, v in torched(arrays).items()}, folder / "sae.safetensors")
    sae = load(folder)
    assert {str(p.dtype) for p in sae.parameters()} == {"torch.float32"}


def test_a_run_of_several_is_not_guessed(write) -> None:
    folder, _ = write("layers.1")
    write("layers.2")
    with pytest.raises(ValueError, match=r"run holds 2 SAEs: load one of layers\.1, layers\.2"):
        load(folder.parent)
