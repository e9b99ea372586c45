"""OpenAI's autoencoders: a layer norm of each row where they are TopK."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.formats.save_load import load

D, F, K = 12, 30, 4


@pytest.fixture
def write(tmp_path, draw, torched):
    def make(activation: str = "TopK", *, tied: bool = False, at: str = "5.pt", **state):
        arrays = {"pre_bias": draw(D), "latent_bias": draw(F), "encoder.weight": draw(F, D)}
        arrays["decoder.weight"] = arrays["encoder.weight"].T if tied else draw(D, F)
        entries = torched(arrays)
        if tied:
            entries["decoder.linear.weight"] = entries["encoder.weight"]
            del entries["decoder.weight"]
        entries |= {
            "stats_last_nonzero": torch.zeros(F, dtype=torch.long),
            "latents_activation_frequency": torch.ones(F),
            "latents_mean_square": torch.zeros(F),
            "activation": activation,
        }
        if activation == "TopK":
            entries["activation_state_dict"] = {"k": K, "postact_fn": "ReLU"} | state
        path = tmp_path / at
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(entries, path)
        return path, arrays

    return make


def forward(x, a, top):
    """sparse_autoencoder/model.py: LN divides by (sd + 1e-5), and is undone by sd and mean."""
    mean, sd = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True)
    rows = (x - mean) / (sd + 1e-5)
    f = top((rows - a["pre_bias"]) @ a["encoder.weight"].T + a["latent_bias"], K)
    return f, (f @ a["decoder.weight"].T + a["pre_bias"]) * sd + mean


@pytest.mark.parametrize("tied", [False, True])
def test_topk(write, x, top, agrees, tied) -> None:
    path, arrays = write(tied=tied)
    agrees(load(path), x, *forward(x, arrays, top))


def test_the_layer_norm_of_small_rows(write, x, top) -> None:
    """Where sd is 1e-3, undoing it by sd + 1e-5 would be off by 1 %."""
    path, arrays = write()
    small = (1e-3 * x).astype(np.float32).astype(np.float64)
    _, expected = forward(small, arrays, top)
    found = load(path)(torch.from_numpy(small.astype(np.float32))).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_relu_has_no_layer_norm(write, x, agrees) -> None:
    path, a = write("ReLU")
    f = np.maximum((x - a["pre_bias"]) @ a["encoder.weight"].T + a["latent_bias"], 0)
    agrees(load(path), x, f, f @ a["decoder.weight"].T + a["pre_bias"])


@pytest.mark.parametrize(
    ("place", "site"),
    [
        ("resid_post_mlp", "blocks.5.resid_post"),
        ("resid_post_attn", "blocks.5.resid_mid"),
        ("resid_delta_mlp", "blocks.5.mlp_out"),
        ("resid_delta_attn", "blocks.5.attn_out"),
        ("somewhere", ""),
    ],
)
def test_site(write, place, site) -> None:
    assert load(write(at=f"{place}/autoencoders/5.pt")[0]).site == site


def test_negative_codes_are_refused(write) -> None:
    with pytest.raises(ValueError, match="'postact_fn' is 'Identity'; codes could be negative"):
        load(write(postact_fn="Identity")[0])


def test_another_activation_is_refused(write) -> None:
    with pytest.raises(ValueError, match="'activation' is 'Identity'"):
        load(write("Identity")[0])


def test_a_missing_k_is_named(write, torched) -> None:
    path, _ = write()
    entries = torch.load(path, weights_only=True)
    del entries["activation_state_dict"]["k"]
    torch.save(entries, path)
    with pytest.raises(ValueError, match=r"5\.pt: no key 'k' in 'activation_state_dict'"):
        load(path)
