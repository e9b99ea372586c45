"""Each class of dictionary_learning, from its own state_dict and by its own formulas."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.formats.dictionary_learning import CLASSES
from layerscope.analyses.sae.formats.save_load import load

D, F, K, THETA = 12, 30, 4, 0.8


def arrays_of(name: str, draw) -> dict:
    linear = {"encoder.weight": draw(F, D), "decoder.weight": draw(D, F)}
    plain = {"W_enc": draw(D, F), "b_enc": draw(F), "W_dec": draw(F, D), "b_dec": draw(D)}
    bias, b_dec = {"encoder.bias": draw(F)}, {"b_dec": draw(D)}
    k = {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(THETA)}
    return {
        "AutoEncoder": linear | bias | {"bias": draw(D)},
        "AutoEncoderNew": linear | bias | {"decoder.bias": draw(D)},
        "GatedAutoEncoder": linear
        | {name: draw(F) for name in ("r_mag", "gate_bias", "mag_bias")}
        | {"decoder_bias": draw(D)},
        "AutoEncoderTopK": linear | bias | b_dec | k,
        "BatchTopKSAE": linear | bias | b_dec | k,
        "MatryoshkaBatchTopKSAE": plain | k | {"group_sizes": torch.tensor([10, 20])},
        "JumpReluAutoEncoder": plain | {"threshold": np.abs(draw(F))},
    }[name]


def relu(values):
    return np.maximum(values, 0)


def forward(name: str, a: dict, x, top):
    """dictionary.py and trainers/{top_k,batch_top_k,matryoshka_batch_top_k}.py."""
    if name in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        jump = name == "JumpReluAutoEncoder"
        pre = (x if jump else x - a["b_dec"]) @ a["W_enc"] + a["b_enc"]
        f = relu(pre) * (pre > (a["threshold"] if jump else THETA))
        return f, f @ a["W_dec"] + a["b_dec"]
    encoder, decoder = a["encoder.weight"].T, a["decoder.weight"].T
    if name == "GatedAutoEncoder":
        inner = (x - a["decoder_bias"]) @ encoder
        f = (inner + a["gate_bias"] > 0) * relu(np.exp(a["r_mag"]) * inner + a["mag_bias"])
        return f, f @ decoder + a["decoder_bias"]
    if name == "AutoEncoderNew":
        f = relu(x @ encoder + a["encoder.bias"])
        return f, f @ decoder + a["decoder.bias"]
    if name == "AutoEncoder":  # from_pretrained calls normalize_decoder
        norms = np.linalg.norm(decoder, axis=1)
        f = relu((x - a["bias"]) @ (encoder * norms) + a["encoder.bias"] * norms)
        return f, f @ (decoder / norms[:, None]) + a["bias"]
    pre = (x - a["b_dec"]) @ encoder + a["encoder.bias"]
    f = top(relu(pre), K) if name == "AutoEncoderTopK" else relu(pre) * (pre > THETA)
    return f, f @ decoder + a["b_dec"]


@pytest.fixture
def write(tmp_path, draw, torched):
    """``write(class)`` -> the file, arrays."""

    def make(name: str, *, config: bool = True, at: str = "trainer_0/ae.pt", **trainer):
        arrays = arrays_of(name, draw)
        path = tmp_path / at
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(torched(arrays), path)
        if config:
            about = {"trainer": {"dict_class": name, "activation_dim": D, **trainer}, "buffer": {}}
            (tmp_path / "trainer_0" / "config.json").write_text(json.dumps(about))
        return path, arrays

    return make


@pytest.mark.parametrize("name", CLASSES)
def test_forward(write, x, top, agrees, name) -> None:
    path, arrays = write(name)
    agrees(load(path), x, *forward(name, arrays, x, top))
    assert load(path.parent).about["architecture"] == name


@pytest.mark.parametrize(
    "name", [n for n in CLASSES if n not in ("AutoEncoderTopK", "BatchTopKSAE")]
)
def test_the_class_is_seen_in_the_keys(write, x, top, agrees, name) -> None:
    path, arrays = write(name, config=False)
    agrees(load(path), x, *forward(name, arrays, x, top))


def test_two_classes_of_the_same_keys_are_not_guessed(write, x, top, agrees) -> None:
    path, arrays = write("BatchTopKSAE", config=False)
    with pytest.raises(ValueError, match="may be an AutoEncoderTopK or a BatchTopKSAE"):
        load(path)
    for name in ("AutoEncoderTopK", "BatchTopKSAE"):
        sae = load(path, f"dictionary_learning:{name}")
        agrees(sae, x, *forward(name, arrays, x, top))


def test_a_decoder_of_unit_norm_is_left_alone(write, torched) -> None:
    """To the tolerance of their code, 1e-5: such a file keeps its bits."""
    path, arrays = write("AutoEncoder")
    arrays["decoder.weight"] *= (1 + 4e-6) / np.linalg.norm(arrays["decoder.weight"], axis=0)
    torch.save(torched(arrays), path)
    assert torch.equal(load(path).W_enc, torched(arrays["encoder.weight"]).T)


def test_an_untrained_threshold_passes_what_is_positive(write, torched) -> None:
    path, arrays = write("BatchTopKSAE")
    torch.save(torched(arrays | {"threshold": torch.tensor(-1.0)}), path)
    sae = load(path)
    assert sae.threshold.tolist() == [0.0] * F


def test_checkpoints_know_their_config_above(write) -> None:
    path, _ = write("BatchTopKSAE", at="trainer_0/checkpoints/ae_500.pt", layer=8)
    assert load(path).activation == "jumprelu"


@pytest.mark.parametrize(
    ("module", "site"),
    [
        (None, "blocks.8.resid_post"),
        ("resid_post_layer_8", "blocks.8.resid_post"),
        ("mlp_out_layer_8", "blocks.8.mlp_out"),
        ("attention_out_layer_8", "blocks.8.attn_out"),
        ("gpt_neox.layers.8", "blocks.8.resid_post"),
        ("something", "something"),
    ],
)
def test_sites(write, module, site) -> None:
    path, _ = write("AutoEncoder", layer=8, lm_name="pythia", submodule_name=module)
    sae = load(path)
    assert (sae.site, sae.about["model"]) == (site, "pythia")


def test_compiled_modules_lose_their_prefix(write, x, top, agrees, torched) -> None:
    path, arrays = write("AutoEncoderTopK")
    torch.save({f"_orig_mod.{k}": v for k, v in torched(arrays).items()}, path)
    agrees(load(path), x, *forward("AutoEncoderTopK", arrays, x, top))


def test_an_unknown_class_is_said(write) -> None:
    path, _ = write("AutoEncoder", dict_class="IdentityDict")
    with pytest.raises(ValueError, match="class 'IdentityDict'; there are AutoEncoder, "):
        load(path)


@pytest.mark.parametrize("name", CLASSES)
def test_every_missing_key_is_named(write, torched, name) -> None:
    path, arrays = write(name)
    used = [key for key in arrays if not (name == "AutoEncoderTopK" and key == "threshold")]
    used = [key for key in used if not (key == "k" and name != "AutoEncoderTopK")]
    for key in used:
        torch.save(torched({k: v for k, v in arrays.items() if k != key}), path)
        with pytest.raises(ValueError, match=f"ae.pt: no key '{key}'; there is"):
            load(path, "dictionary_learning")


@pytest.mark.parametrize("name", CLASSES)
def test_every_misshapen_key_is_named(write, torched, draw, name) -> None:
    path, arrays = write(name)
    for key in [key for key, value in arrays.items() if value.ndim and key != "group_sizes"]:
        torch.save(torched(arrays | {key: draw(5, 7, 3)}), path)
        with pytest.raises(ValueError, match=rf"ae.pt: '{key}' has shape \[5, 7, 3\]"):
            load(path, "dictionary_learning")
