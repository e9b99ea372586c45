"""Logit effects: the decoder row through gain and unembedding, written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from layerscope.analyses.sae.looking.logit_effects import (
    extremes,
    logit_effects,
    speller,
    typical_stream,
    written,
)
from layerscope.hooks.unembed import Unembed


def by_hand(model: Any, decoder: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
    """Of a GPT-2: layer norm with the scale of `row`, then the unembedding, centred."""
    norm = model.transformer.ln_f
    scale = (row.var(correction=0) + norm.eps).rsqrt()
    moved = (decoder - decoder.mean(1, keepdim=True)) * scale * norm.weight
    logits = moved @ model.lm_head.weight.T
    return (logits - logits.mean(1, keepdim=True)).detach()


@pytest.fixture
def model(gpt2: Any) -> Any:
    with torch.no_grad():  # at their start they are ones and zeros, and would hide a mistake
        generator = torch.Generator().manual_seed(1)
        gpt2.transformer.ln_f.weight.copy_(torch.rand(16, generator=generator) + 0.5)
        gpt2.transformer.ln_f.bias.copy_(torch.randn(16, generator=generator))
    return gpt2.eval()


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(9, 16, generator=generator), 3 * torch.randn(7, 16, generator=generator)


def test_it_is_gain_and_unembedding_under_the_middle_length(model: Any) -> None:
    decoder, stream = drawn()
    found = logit_effects(model, decoder, stream, keep=5)
    expected = by_hand(model, decoder, stream[stream.norm(dim=1).argsort()[3]])
    up, down = expected.topk(5), expected.topk(5, largest=False)
    assert torch.equal(found.up, up.indices)
    assert torch.equal(found.down, down.indices)
    torch.testing.assert_close(found.up_logits, up.values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.down_logits, down.values, rtol=1e-4, atol=1e-5)


def test_a_short_step_along_the_direction_moves_the_logits_so(model: Any) -> None:
    """Where the direction leaves the norm's scale as it is, nothing is approximated."""
    _, stream = drawn()
    row = stream[stream.norm(dim=1).argsort()[3]].double()
    model.double()
    centred = row - row.mean()
    step = torch.randn(16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    step -= step.mean()
    step -= (step @ centred) / (centred @ centred) * centred
    decode, size = Unembed(model), 1e-5
    moved = (decode(row + size * step) - decode(row)).detach() / size
    found = logit_effects(model, step[None], stream.double(), keep=3)
    torch.testing.assert_close(
        found.up_logits[0].double(), (moved - moved.mean()).topk(3).values, rtol=1e-3, atol=1e-5
    )


def test_of_equal_logits_the_lower_token_comes_first() -> None:
    logits = torch.tensor([[1.0, 3, 0, 3, 0, 1]])
    assert extremes(logits, 4, largest=True).tolist() == [[1, 3, 0, 5]]
    assert extremes(logits, 3, largest=False).tolist() == [[2, 4, 0]]
    assert extremes(logits, 9, largest=True).shape == (1, 6)


def test_another_width_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match=r"width 8 and the residual stream of GPT2LMHeadModel 16"):
        logit_effects(model, torch.ones(2, 8), drawn()[1], keep=3)


@pytest.mark.parametrize(
    "site", ["embed", "blocks.3.resid_mid", "blocks.0.mlp_out", "a,blocks.1.attn_out"]
)
def test_what_is_added_to_the_stream_has_effects(site: str) -> None:
    assert written(site) == ""


@pytest.mark.parametrize("site", ["blocks.3.mlp_act", "blocks.0.z", "", "logits"])
def test_what_is_not_added_has_none(site: str) -> None:
    assert "not added to the residual stream" in written(site)


def test_the_stream_is_the_store_s_or_that_of_its_first_texts(
    gpt2: Any, tokenizer: Any, tmp_path: Any
) -> None:
    import layerscope as ls

    texts = ["the cat sat on the mat .", "a dog barks", "who knows ?"]
    own = ls.extract(gpt2, texts, [2], tokenizer=tokenizer, to=tmp_path / "own", progress=False)
    other = ls.extract(gpt2, texts, [0], tokenizer=tokenizer, to=tmp_path / "other", progress=False)
    torch.testing.assert_close(typical_stream(gpt2, other), typical_stream(gpt2, own))
    assert torch.equal(typical_stream(gpt2, own), own[2].tensor())


def test_without_ids_the_scale_is_not_to_be_had(gpt2: Any, known_words: Any, tmp_path: Any) -> None:
    import pandas as pd

    from layerscope.store import Store

    store = Store.create(tmp_path / "s", {}, sites={"a": 2}, dtype=torch.float32, about={})
    store.write(0, {"a": torch.ones(2, 2)}, pd.DataFrame({"sample": [0, 1], "group": [0, 1]}))
    store.finish(1)
    with pytest.raises(LookupError, match=r"neither blocks\.2\.resid_post nor token ids"):
        typical_stream(gpt2, store)


def test_tokens_are_spelled_by_the_tokenizer_else_by_the_store(
    gpt2: Any, tokenizer: Any, known_words: Any
) -> None:
    cat = tokenizer(" cat")["input_ids"]
    spell = speller(gpt2, tokenizer, known_words.store)
    assert "".join(spell(token) for token in cat) == " cat"
    spell = speller(gpt2, None, known_words.store)
    assert spell(0).strip() == "cat"
    assert spell(299) == "#299"
