"""What replacing a site does to the model, against plain passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.analyses.material.texts import as_texts
from layerscope.analyses.sae.measuring.behaviour import (
    behaviour,
    constant,
    measures,
    recovered,
    replacing,
)
from layerscope.analyses.sae.sae import SAE
from layerscope.hooks.capture import capture

SITE = "blocks.1.resid_post"


@pytest.fixture
def texts(gpt2, tokenizer, sentences):
    return as_texts(gpt2, sentences, tokenizer=tokenizer)


@pytest.fixture
def own_texts(gpt2, tokenizer):
    """What the model itself finds likeliest: texts at which zeros do harm."""
    ids = torch.randint(300, (8, 1), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for _ in range(11):
            ids = torch.cat([ids, gpt2(ids).logits[:, -1:].argmax(-1)], dim=1)
    return as_texts(gpt2, ids.tolist(), tokenizer=tokenizer)


def identity(width: int = 16) -> SAE:
    eye = torch.eye(width)
    return SAE(
        torch.cat([eye, -eye], 1),
        torch.zeros(2 * width),
        torch.cat([eye, -eye]),
        torch.zeros(width),
    )


def plain_loss(model, texts, counted=lambda i, p: True) -> float:
    total, count = 0.0, 0
    for ids in texts.prompts.ids:
        with torch.no_grad():
            logp = model(ids[None]).logits[0, :-1].log_softmax(-1)
        for p in range(len(ids) - 1):
            if counted(ids, p):
                total -= float(logp[p, ids[p + 1]])
                count += 1
    return total / count


def test_identity_recovers_all_and_zero_nothing(gpt2, own_texts) -> None:
    texts = own_texts
    mean = torch.full((16,), 0.3)
    found = behaviour(
        gpt2, texts, SITE, SITE,
        {
            "sae": replacing(identity()),
            "ablated": constant(torch.zeros(16)),
            "zero": constant(torch.zeros(16)),
            "mean": constant(mean),
        },
        progress=False,
    )  # fmt: skip
    one = {
        name: {key: float(v[0]) for key, v in by.items()} for name, by in measures(found).items()
    }
    assert one["sae"]["ce_clean"] == pytest.approx(plain_loss(gpt2, texts), rel=1e-5)
    assert one["sae"]["ce_recovered_zero"] == pytest.approx(1.0, abs=1e-4)
    assert one["sae"]["kl_recovered_zero"] == pytest.approx(1.0, abs=1e-5)
    assert one["sae"]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert one["ablated"]["ce_recovered_zero"] == 0.0
    assert one["ablated"]["kl_recovered_zero"] == 0.0
    assert one["ablated"]["ce_replaced"] == one["ablated"]["ce_zero"]


def test_replaced_losses_are_those_of_a_plain_hook(gpt2, texts) -> None:
    """The same by torch's own hook on the module, one text at a time."""
    value = torch.linspace(-1, 1, 16)
    found = behaviour(gpt2, texts, SITE, SITE, {"mean": constant(value)}, progress=False)
    handle = gpt2.transformer.h[1].register_forward_hook(
        lambda module, args, out: (value.expand_as(out[0]), *out[1:])
        if isinstance(out, tuple) else value.expand_as(out)
    )  # fmt: skip
    try:
        wanted = plain_loss(gpt2, texts)
    finally:
        handle.remove()
    assert found.loss.sum() / found.counts.sum() == pytest.approx(wanted, rel=1e-5)
    assert found.counts.sum() == sum(len(ids) - 1 for ids in texts.prompts.ids)
    assert (found.divergence > 0).all()


def test_special_tokens_are_neither_replaced_nor_counted(gpt2, tokenizer, sentences) -> None:
    special = tokenizer.pad_token_id
    ids = [[special, *tokenizer(text)["input_ids"], special] for text in sentences[:4]]
    texts = as_texts(gpt2, ids, tokenizer=tokenizer)
    seen = []

    def replaced(x, y):
        seen.append(len(x))
        return torch.zeros_like(y)

    found = behaviour(gpt2, texts, SITE, SITE, {"zero": replaced}, progress=False)
    inner = [len(one) - 2 for one in ids]
    assert sum(seen) == sum(inner)
    assert found.counts.tolist() == [n - 1 for n in inner]
    wanted = plain_loss(gpt2, texts, lambda t, p: special not in (int(t[p]), int(t[p + 1])))
    assert found.clean.sum() / found.counts.sum() == pytest.approx(wanted, rel=1e-5)
    # A special token's own state is what it was: only ordinary positions are written.
    with pytest.raises(ValueError, match="leaves no prediction"):
        behaviour(
            gpt2, as_texts(gpt2, [[special, special]], tokenizer=tokenizer), SITE, SITE,
            {"zero": replaced}, progress=False,
        )  # fmt: skip


def test_a_transcoder_reads_one_site_and_writes_another(gpt2, texts) -> None:
    site, target = "blocks.1.resid_mid", "blocks.1.mlp_out"
    seen = {}

    def exact(x, y):
        seen["x"], seen["y"] = x, y
        return y

    one = texts.chosen([0])
    found = behaviour(gpt2, one, site, target, {"exact": exact}, progress=False)
    with capture(gpt2, [site, target]) as states, torch.no_grad():
        gpt2(one.prompts.ids[0][None])
    torch.testing.assert_close(seen["x"], states[site][0])
    torch.testing.assert_close(seen["y"], states[target][0])
    assert found.loss[0] == pytest.approx(found.clean)


def test_recovered_by_hand() -> None:
    one = np.array([2.0])
    assert recovered(one, np.array([3.0]), np.array([6.0])) == pytest.approx(0.75)
    assert np.isnan(recovered(one, np.array([3.0]), np.array([2.0])))


def test_the_model_comes_back_as_it_was(gpt2, texts) -> None:
    gpt2.train()
    state = torch.random.get_rng_state()
    behaviour(gpt2, texts, SITE, SITE, {"zero": constant(torch.zeros(16))}, progress=False)
    assert gpt2.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not gpt2.transformer.h[1]._forward_hooks


def test_a_model_without_logits_is_refused(texts) -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(300, 4), torch.nn.Flatten())
    with pytest.raises(ValueError, match=r"Sequential gives .*cross-entropy needs logits"):
        behaviour(model, texts.chosen([0]), "1", "1", {}, progress=False)
