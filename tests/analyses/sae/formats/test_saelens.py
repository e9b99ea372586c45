"""SAELens' layout as `save` writes it, and every spelling of cfg.json; no SAELens needed."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from layerscope.analyses.sae.formats.save_load import load, save
from layerscope.analyses.sae.sae import SAE

D, F, OUT, K = 12, 30, 8, 4


@pytest.fixture
def make(draw, torched):
    """``make(d_out, **options)``: an SAE with random weights."""

    def build(d_out: int = D, **options):
        weights = torched({"a": draw(D, F), "b": draw(F), "c": draw(F, d_out), "d": draw(d_out)})
        return SAE(*weights.values(), **options)

    return build


@pytest.fixture
def kinds(make, draw, torched):
    positive, gates = torched(np.abs(draw(F))), torched({"r_mag": draw(F), "b_mag": draw(F)})
    jump = {"activation": "jumprelu", "threshold": positive}
    cross = {
        "subtract_b_dec": False,
        "about": {"site": "blocks.1.resid_mid", "target": "blocks.1.mlp_out"},
    }
    topk = {"activation": "topk", "k": K}
    skip = {"W_skip": torched(draw(D, OUT))}
    return {
        "standard": make(about={"site": "blocks.3.resid_post", "model": "gpt2", "more": [1, 2.5]}),
        "topk": make(**topk, normalise="layer_norm"),
        "jumprelu": make(**jump, subtract_b_dec=False),
        "gated": make(activation="gated", **gates, normalise="constant_norm"),
        "transcoder": make(OUT, **cross),
        "jumprelu_transcoder": make(OUT, **jump, **cross),
        "skip_transcoder": make(OUT, **skip, **cross),
        "jumprelu_skip_transcoder": make(OUT, **skip, **jump, **cross),
        "layerscope_topk": make(OUT, **topk, **cross),
        "layerscope_afa": make(activation="afa"),
        "layerscope_gated": make(OUT, activation="gated", **gates, **cross),
        "layerscope_relu": make(OUT, normalise="layer_norm", **skip, **cross),
    }


NAMES = (
    "standard",
    "topk",
    "jumprelu",
    "gated",
    "transcoder",
    "jumprelu_transcoder",
    "skip_transcoder",
    "jumprelu_skip_transcoder",
)
FOREIGN = ("layerscope_topk", "layerscope_afa", "layerscope_gated", "layerscope_relu")


def same(one: SAE, other: SAE) -> None:
    theirs = dict(other.named_parameters())
    assert dict(one.named_parameters()).keys() == theirs.keys()
    for name, tensor in one.named_parameters():
        assert torch.equal(tensor, theirs[name]), name
    for name in ("activation", "k", "subtract_b_dec", "normalise", "parts", "about"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(kinds, tmp_path, name) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert save(kinds[name], tmp_path / "sae") == tmp_path / "sae"
        same(load(tmp_path / "sae"), kinds[name])
    assert json.loads((tmp_path / "sae" / "cfg.json").read_text())["architecture"] == name


@pytest.mark.parametrize("name", FOREIGN)
def test_round_trip_of_what_saelens_has_not(kinds, tmp_path, name) -> None:
    with pytest.warns(UserWarning, match="SAELens cannot load SAE.*: it has no"):
        save(kinds[name], tmp_path)
    assert json.loads((tmp_path / "cfg.json").read_text())["architecture"] == name
    same(load(tmp_path), kinds[name])


def test_a_crosscoder_keeps_its_parts(make, tmp_path) -> None:
    sae = make(subtract_b_dec=False, parts=(7, 5), about={"site": "a, b"})
    save(sae, tmp_path)
    assert json.loads((tmp_path / "cfg.json").read_text())["architecture"] == "standard"
    same(load(tmp_path), sae)


def test_a_transcoder_that_subtracts_is_written_as_one_that_does_not(make, x, tmp_path) -> None:
    sae = make(about={"site": "a", "target": "b"})
    save(sae, tmp_path)
    found, rows = load(tmp_path), torch.from_numpy(x).float()
    assert not found.subtract_b_dec
    torch.testing.assert_close(found.encode(rows), sae.encode(rows), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found(rows), sae(rows), rtol=1e-5, atol=1e-5)


def test_names_of_hooks(make, tmp_path) -> None:
    save(make(about={"site": "blocks.3.z", "model": "gpt2"}), tmp_path)
    metadata = json.loads((tmp_path / "cfg.json").read_text())["metadata"]
    assert metadata["hook_name"] == "blocks.3.attn.hook_z"
    assert metadata["model_name"] == "gpt2"
    assert int(metadata["sae_lens_version"].split(".")[0]) >= 6


def test_the_skip_is_stored_as_saelens_stores_it(kinds, tmp_path) -> None:
    save(kinds["skip_transcoder"], tmp_path)
    stored = load_file(tmp_path / "sae_weights.safetensors")["W_skip"]
    assert torch.equal(stored, kinds["skip_transcoder"].W_skip.T)


def test_half_precision_is_said_and_read_in_full(make, tmp_path) -> None:
    save(make().bfloat16(), tmp_path)
    assert json.loads((tmp_path / "cfg.json").read_text())["dtype"] == "bfloat16"
    assert load_file(tmp_path / "sae_weights.safetensors")["W_enc"].dtype == torch.bfloat16
    assert load(tmp_path).W_enc.dtype == torch.float32


def test_double_precision_stays(make, tmp_path) -> None:
    sae = make().double()
    sae.W_enc.data += 1e-12
    save(sae, tmp_path)
    same(load(tmp_path), sae)


# What SAELens writes, in the layouts of its versions


@pytest.fixture
def write(tmp_path, draw, torched):
    """``write(cfg, **tensors)`` -> folder, arrays."""

    def make(cfg, drop=(), **more):
        arrays = {"W_enc": draw(D, F), "b_enc": draw(F), "W_dec": draw(F, D), "b_dec": draw(D)}
        arrays = {key: value for key, value in (arrays | more).items() if key not in drop}
        (tmp_path / "cfg.json").write_text(json.dumps({"d_in": D, "d_sae": F} | cfg))
        save_file(torched(arrays), tmp_path / "sae_weights.safetensors")
        return tmp_path, arrays

    return make


def pre(x, a, *, subtract=True):
    return (x - a["b_dec"] * subtract) @ a["W_enc"] + a["b_enc"]


def test_the_layout_before_version_6(write, x, top, agrees) -> None:
    folder, a = write(
        {
            "hook_point": "blocks.8.hook_resid_pre",
            "model_name": "gpt2-small",
            "activation_fn_str": "topk",
            "activation_fn_kwargs": {"k": K},
            "apply_b_dec_to_input": False,
            "normalize_activations": False,
        }
    )
    f = top(pre(x, a, subtract=False), K)
    sae = load(folder)
    agrees(sae, x, f, f @ a["W_dec"] + a["b_dec"])
    assert (sae.site, sae.about["model"]) == ("blocks.8.resid_pre", "gpt2-small")


def test_the_scaling_factor_of_version_3(write, x, agrees) -> None:
    factor = np.linspace(0.5, 2, F)
    folder, a = write({"architecture": "standard"}, scaling_factor=factor)
    f = np.maximum(pre(x, a), 0)
    agrees(load(folder), x, f, (f * factor) @ a["W_dec"] + a["b_dec"])


def test_log_threshold_of_older_checkpoints(write, x, agrees, draw) -> None:
    logs = draw(F) - 1
    folder, a = write({"architecture": "jumprelu"}, log_threshold=logs)
    f = np.maximum(pre(x, a), 0) * (pre(x, a) > np.exp(logs))
    agrees(load(folder), x, f, f @ a["W_dec"] + a["b_dec"])


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_checkpoints_of_batch_topk_are_jumprelu(write, x, agrees, architecture) -> None:
    cfg = {"architecture": architecture, "k": 4.5, "rescale_acts_by_decoder_norm": True}
    folder, a = write(cfg, topk_threshold=np.array(0.7))
    norms = np.linalg.norm(a["W_dec"], axis=1)
    ranked = pre(x, a) * norms
    f = ranked * (ranked > np.float32(0.7))
    agrees(load(folder), x, f, (f / norms) @ a["W_dec"] + a["b_dec"])


def test_topk_ranked_by_norm(write, x, top, agrees) -> None:
    folder, a = write({"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True})
    norms = np.linalg.norm(a["W_dec"], axis=1)
    f = top(pre(x, a) * norms, K)
    agrees(load(folder), x, f, (f / norms) @ a["W_dec"] + a["b_dec"])


def test_a_decoder_row_of_norm_zero_is_never_ranked_first(write, x) -> None:
    folder, _ = write({"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True})
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors["W_dec"][3] = 0
    tensors["b_enc"][3] = 1e6
    save_file(tensors, folder / "sae_weights.safetensors")
    codes = load(folder).encode(torch.from_numpy(x).float())
    assert (codes[:, 3] == 0).all()
    assert ((codes != 0).sum(1) == K).all()


def test_the_scale_of_a_checkpoint_is_folded_in(write, x, agrees) -> None:
    cfg = {"architecture": "standard", "normalize_activations": "expected_average_only_in"}
    folder, a = write(cfg)
    (folder / "activation_scaler.json").write_text(
        '{"scaling_factor": 2.5, "has_whitening": false}'
    )
    f = np.maximum(pre(2.5 * x, a), 0)
    agrees(load(folder), x, f, (f @ a["W_dec"] + a["b_dec"]) / 2.5)


@pytest.mark.parametrize("subtract", [True, False])
def test_the_whitening_of_a_gated_checkpoint_is_folded_in(
    write, x, agrees, draw, torched, subtract
) -> None:
    """Gate and magnitude have biases of their own, and both see the mean."""
    gates = {"b_gate": draw(F), "r_mag": draw(F), "b_mag": draw(F)}
    cfg = {"architecture": "gated", "apply_b_dec_to_input": subtract}
    folder, a = write(cfg, drop=("b_enc",), **gates)
    mean, matrix = draw(D), np.eye(D) + draw(D, D, scale=0.1)
    (folder / "activation_scaler.json").write_text('{"has_whitening": true}')
    whitening = {"mean": mean, "matrix": matrix, "inverse_matrix": np.linalg.inv(matrix)}
    save_file(torched(whitening), folder / "activation_whitening.safetensors")
    inner = ((x - mean) @ matrix - a["b_dec"] * subtract) @ a["W_enc"]
    f = (inner + a["b_gate"] > 0) * np.maximum(np.exp(a["r_mag"]) * inner + a["b_mag"], 0)
    agrees(load(folder), x, f, (f @ a["W_dec"] + a["b_dec"]) @ np.linalg.inv(matrix) + mean)


def test_transcoders_subtract_nothing(write, x, agrees) -> None:
    folder, a = write({"architecture": "transcoder"})
    f = np.maximum(pre(x, a, subtract=False), 0)
    agrees(load(folder), x, f, f @ a["W_dec"] + a["b_dec"])


@pytest.mark.parametrize("named", ["expected_average_only_in", True])
def test_a_scale_that_nothing_tells_is_said(write, named) -> None:
    folder, _ = write({"normalize_activations": named})
    with pytest.warns(UserWarning, match=r"cfg\.json: rows were normalised in training \(expected"):
        load(folder)


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        ({"architecture": "abstopk", "k": K}, "architecture 'abstopk' of SAELens; there are"),
        ({"architecture": "topk"}, r"cfg\.json: no key 'k'; there is"),
        ({"normalize_activations": "mystery"}, "'normalize_activations' is 'mystery'"),
        (
            {"architecture": "transcoder", "normalize_activations": "layer_norm"},
            "a transcoder with 'normalize_activations' 'layer_norm'",
        ),
    ],
)
def test_what_cannot_be_read(write, cfg, words) -> None:
    with pytest.raises(ValueError, match=words):
        load(write(cfg)[0])


@pytest.mark.parametrize(
    ("architecture", "keys"),
    [
        ("standard", ("W_enc", "b_enc", "W_dec", "b_dec")),
        ("jumprelu", ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")),
        ("gated", ("W_enc", "b_gate", "W_dec", "b_dec", "r_mag", "b_mag")),
    ],
)
def test_missing_and_misshapen_keys_are_named(write, draw, architecture, keys) -> None:
    whole = {key: draw(F) for key in keys if key not in ("W_enc", "b_enc", "W_dec", "b_dec")}
    unused = ("b_enc",) if architecture == "gated" else ()
    load(write({"architecture": architecture}, drop=unused, **whole)[0])
    for key in keys:
        folder, _ = write({"architecture": architecture}, drop=(key, *unused), **whole)
        with pytest.raises(ValueError, match=rf"sae_weights\.safetensors: no key '{key}'; there"):
            load(folder)
        folder, _ = write({"architecture": architecture}, **whole | {key: draw(2, 3, 4)})
        with pytest.raises(ValueError, match=rf"safetensors: '{key}' has shape \[2, 3, 4\]"):
            load(folder)
