"""The trained sorting GPT of ../shared/data/nanogpt_sort has published internal activations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import GPT2LMHeadModel

from layerscope.hooks.capture import Capture, capture

# Site -> name in the published file. Exact names where the vocabulary has one, paths elsewhere.
PUBLISHED = {
    "transformer.wte": "tok_emb",
    "transformer.wpe": "pos_emb",
    "embed": "x",
    "transformer.h.0.ln_1": "ln1",
    "transformer.h.0.attn.c_attn": "qkv",
    "blocks.0.q": "q",
    "blocks.0.k": "k",
    "blocks.0.v": "v",
    "blocks.0.pattern": "attSm",
    "blocks.0.z": "y",
    "blocks.0.attn_out": "yProj",
    "blocks.0.resid_mid": "attnResid",
    "transformer.h.0.ln_2": "ln2",
    "transformer.h.0.mlp.c_fc": "fc",
    "blocks.0.mlp_act": "gelu",
    "blocks.0.mlp_out": "mlp",
    "blocks.0.resid_post": "mlpResid",
    "blocks.1.resid_pre": "block0",
    "blocks.1.resid_post": "block1",
    "blocks.2.resid_post": "block2",
    "norm": "ln_f",
    "logits": "lm_head",
}


@pytest.fixture(scope="module")
def gold(shared_data: Path) -> dict[str, Tensor]:
    return load_file(shared_data / "nanogpt_sort" / "gold_activations.safetensors")


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def seen(request: pytest.FixtureRequest, shared_data: Path, gold: dict[str, Tensor]) -> Capture:
    folder = shared_data / "nanogpt_sort" / "hf"
    model = GPT2LMHeadModel.from_pretrained(folder, attn_implementation=request.param).eval()
    with torch.no_grad(), capture(model, list(PUBLISHED)) as seen:
        model(gold["idx"].long())
    return seen


@pytest.mark.parametrize("site", PUBLISHED)
def test_each_published_tensor(site: str, seen: Capture, gold: dict[str, Tensor]) -> None:
    want = gold[PUBLISHED[site]]
    torch.testing.assert_close(seen[site].reshape(want.shape), want, atol=2e-6, rtol=0)


def test_scores_and_probabilities_that_follow(seen: Capture, gold: dict[str, Tensor]) -> None:
    q, k = seen["blocks.0.q"], seen["blocks.0.k"]
    scores = q @ k.mT / q.shape[-1] ** 0.5
    allowed = gold["att"].isfinite()
    torch.testing.assert_close(scores[allowed], gold["att"][allowed], atol=2e-6, rtol=0)
    torch.testing.assert_close(seen["logits"].softmax(-1), gold["probs"], atol=2e-6, rtol=0)


def test_nothing_published_is_left_out(gold: dict[str, Tensor]) -> None:
    assert set(gold) == {*PUBLISHED.values(), "idx", "att", "probs"}
