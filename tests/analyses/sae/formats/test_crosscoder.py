"""Crosscoders: sites side by side, thresholds against code times norm, activations normalised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from layerscope.analyses.sae.formats.save_load import load

L, D, F, THETA = 3, 4, 30, 0.9


@pytest.fixture
def arrays(draw) -> dict:
    return {
        "encoder.weight": draw(L, D, F),
        "encoder.bias": draw(F),
        "decoder.weight": draw(L, F, D),
        "decoder.bias": draw(L, D),
    }


@pytest.fixture
def write(tmp_path, torched):
    def make(arrays, **more):
        path = tmp_path / "ae_final.pt"
        torch.save(torched(arrays) | more, path)
        return path

    return make


def forward(x, a, *, threshold=None, norms=1.0, mean=0.0, scale=1.0):
    """dictionary.py of the fork: CrossCoder and BatchTopKCrossCoder, written out by site."""
    rows = (x.reshape(-1, L, D) - mean) * np.reshape(scale, (-1, 1))
    f = np.maximum(np.einsum("bld,ldf->bf", rows, a["encoder.weight"]) + a["encoder.bias"], 0)
    if threshold is not None:
        f = f * (f * norms > threshold)
    x_hat = np.einsum("bf,lfd->bld", f, a["decoder.weight"]) + a["decoder.bias"]
    x_hat = x_hat / np.reshape(np.asarray(scale) + (1e-8 if np.ndim(scale) else 0), (-1, 1)) + mean
    return f, x_hat.reshape(len(x), -1)


def test_relu(write, arrays, x, agrees) -> None:
    sae = load(write(arrays))
    agrees(sae, x, *forward(x, arrays))
    assert (sae.parts, sae.subtract_b_dec) == ((D, D, D), False)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_batch_topk(write, arrays, x, agrees, number) -> None:
    """CROSSCODER, SAE, MIXED, NONE: how norms of the sites are put together."""
    by_site = np.linalg.norm(arrays["decoder.weight"], axis=2)
    whole, summed = np.sqrt((by_site**2).sum(0)), by_site.sum(0)
    norms = {1: summed, 2: whole, 3: whole + 0.1 * summed, 4: np.ones(F)}[number]
    more = {
        "code_normalization_id": torch.tensor(number),
        "threshold": torch.tensor(THETA),
        "k": torch.tensor(4, dtype=torch.int),
    }
    agrees(load(write(arrays, **more)), x, *forward(x, arrays, threshold=THETA, norms=norms))


def test_a_decoder_of_norm_zero_never_fires(write, arrays, x) -> None:
    arrays["decoder.weight"][:, 3] = 0
    sae = load(write(arrays, threshold=torch.tensor(THETA)))
    assert (sae.encode(torch.from_numpy(x).float())[:, 3] == 0).all()


def test_an_untrained_threshold_is_a_relu(write, arrays, x, agrees) -> None:
    agrees(load(write(arrays, threshold=torch.tensor(-1.0))), x, *forward(x, arrays))


@pytest.mark.parametrize("stored", [True, False])
def test_normalised_activations(write, arrays, x, agrees, draw, torched, stored) -> None:
    mean, deviation, target = draw(L, D), 0.5 + np.abs(draw(L, D)), 2.0
    scale = target / np.sqrt((deviation**2).sum(1) + 1e-8)
    buffers = {"activation_mean": mean, "activation_std": deviation}
    if stored:
        buffers["activation_global_scale"] = scale
    more = torched(buffers) | {"target_rms": torch.tensor(target)}
    agrees(load(write(arrays, **more)), x, *forward(x, arrays, mean=mean, scale=scale))


@pytest.mark.parametrize("unknown", ["activation_mean", "activation_std"])
def test_nan_means_not_normalised(write, arrays, x, agrees, unknown) -> None:
    known = {"activation_mean": torch.ones(L, D), "activation_std": torch.ones(L, D)}
    more = known | {unknown: torch.full((L, D), torch.nan)}
    agrees(load(write(arrays, **more)), x, *forward(x, arrays))


def test_compiled_and_safetensors(tmp_path, arrays, x, agrees, torched) -> None:
    torch.save({f"_orig_mod.{k}": v for k, v in torched(arrays).items()}, tmp_path / "a.pt")
    save_file(torched(arrays), tmp_path / "model.safetensors")
    for name in ("a.pt", "model.safetensors"):
        agrees(load(tmp_path / name), x, *forward(x, arrays))


def test_decoupled_codes_are_refused(write, arrays) -> None:
    more = {"code_normalization_id": torch.tensor(5), "threshold": torch.full((L,), THETA)}
    with pytest.raises(ValueError, match="a decoupled crosscoder has a threshold and codes for"):
        load(write(arrays, **more))


def test_a_misshapen_key_is_named(write, arrays, draw) -> None:
    arrays["decoder.weight"] = draw(L, D, F)
    with pytest.raises(ValueError, match=r"'decoder\.weight' has shape \[3, 4, 30\]"):
        load(write(arrays))
