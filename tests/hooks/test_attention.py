"""`q k v pattern z`: right by a second computation, and the model's own bits left as they are."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask

from layerscope.hooks.attending import interface
from layerscope.hooks.attending.pattern import additive_mask
from layerscope.hooks.capture import capture
from layerscope.hooks.listening.watch import Listener
from layerscope.hooks.places import AttentionTap
from layerscope.planted import families
from layerscope.planted.two_attentions import Fused, Written

PARTS = ("q", "k", "v", "pattern", "z")
SITES = [f"blocks.1.{part}" for part in PARTS]
DECODERS = [
    *("gpt2", "llama", "qwen3", "mistral", "mixtral", "gemma2", "gemma3", "olmo2", "gpt_neox"),
    *("gptj", "falcon", "phi", "cohere", "opt", "bloom", "mpt"),
]


def left_padded(name: str) -> dict[str, Tensor]:
    """Two rows, the first with four pads on the left, and the positions that go with them."""
    ids = families.batch(name)["input_ids"]
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    if name in ("gpt2", "gptj"):
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)
    return inputs


def overhear(model: nn.Module, path: str, *inputs: Any, grad: bool = False) -> dict[str, Tensor]:
    """The parts that can be heard at `path`, without asking the anatomy."""
    got: dict[str, Tensor] = {}
    for part in PARTS:
        taps = {part: AttentionTap(path, part)}
        listener = Listener(model, taps, lambda s, x, _: got.update({s: x}), differentiable=grad)
        with listener.listening():
            model(*inputs)
    return got


def weighted(pattern: Tensor, v: Tensor) -> Tensor:
    v = v.repeat_interleave(pattern.shape[1] // v.shape[1], 1)
    return (pattern @ v).transpose(1, 2)


@pytest.mark.parametrize("name", [*DECODERS, "bert", "roberta", "distilbert", "albert"])
def test_capture_changes_no_bit_and_the_parts_fit_together(name: str) -> None:
    model, inputs = families.build(name), left_padded(name)
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        plain = model(**inputs).logits
        with capture(model, SITES) as seen:
            logits = model(**inputs).logits
    assert torch.equal(logits, plain)
    q, k, v, pattern, z = (seen[site] for site in SITES)
    assert q.shape == (2, families.HEADS, 9, 8)
    assert k.shape == v.shape
    assert k.shape[1] in (1, 2, families.HEADS)
    assert pattern.shape == (2, families.HEADS, 9, 9)
    assert z.shape == (2, 9, families.HEADS, 8)
    torch.testing.assert_close(weighted(pattern, v)[real], z[real], atol=1e-5, rtol=1e-4)
    sums = pattern.sum(-1).transpose(1, 2)[real]
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert pattern[0][:, 4:, :4].abs().max() == 0  # no attention to pads


@pytest.mark.parametrize("name", [*DECODERS, "bert", "albert"])
def test_patterns_are_those_of_the_eager_model(name: str) -> None:
    model, inputs = families.build(name), left_padded(name)
    eager = families.build(name)
    if name == "falcon":  # refuses set_attn_implementation, and reads the flag in each pass
        eager.config._attn_implementation = "eager"
    elif name != "mpt":
        eager.set_attn_implementation("eager")
    with torch.no_grad():
        with capture(model, "blocks.*.pattern") as seen:
            model(**inputs)
        want = eager(**inputs, output_attentions=True).attentions
    real = inputs["attention_mask"].bool()
    for layer, site in enumerate(seen):
        got = seen[site].transpose(1, 2)[real]
        torch.testing.assert_close(got, want[layer].transpose(1, 2)[real], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon"])
def test_a_query_that_may_attend_to_nothing_does(name: str) -> None:
    model, inputs = families.build(name), left_padded(name)
    with torch.no_grad(), capture(model, SITES) as seen:
        model(**inputs)
    assert seen["blocks.1.pattern"][0, :, :4].abs().max() == 0
    z = weighted(seen["blocks.1.pattern"], seen["blocks.1.v"])
    torch.testing.assert_close(z, seen["blocks.1.z"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", DECODERS)
def test_left_padding_gives_the_same_next_token(name: str) -> None:
    """An attention function under a name unknown to the mask registry would get no mask."""
    model, inputs = families.build(name), left_padded(name)
    alone = inputs["input_ids"][:1, 4:]
    with torch.no_grad():
        with capture(model, SITES):
            watched = model(**inputs).logits[0, -1]
        torch.testing.assert_close(watched, model(alone).logits[0, -1], atol=2e-5, rtol=1e-4)


def test_keys_and_queries_are_rotated() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    sites = ["blocks.0.q", "blocks.0.k", "blocks.0.v", "blocks.0.pattern"]
    with torch.no_grad():
        with capture(model, [*sites, "model.layers.0.self_attn.q_proj"]) as seen:
            model(**inputs)
        q, k, _, pattern = (seen[site] for site in sites)
        flat = seen["model.layers.0.self_attn.q_proj"].view(2, 9, 4, 8).transpose(1, 2)
    torch.testing.assert_close(q[:, :, 0], flat[:, :, 0])  # position 0 is not rotated
    assert (q[:, :, 1:] - flat[:, :, 1:]).abs().max() > 0.1
    scores = q @ k.repeat_interleave(2, 1).mT / 8**0.5
    scores = scores.masked_fill(torch.ones(9, 9, dtype=torch.bool).triu(1), -torch.inf)
    torch.testing.assert_close(scores.softmax(-1), pattern, atol=1e-6, rtol=1e-5)


def test_sinks_take_their_share() -> None:
    torch.manual_seed(0)
    config = hf.GptOssConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=4,
    )
    model = hf.GptOssForCausalLM(config).eval()
    ids = families.batch("llama")["input_ids"]
    with torch.no_grad(), capture(model, "blocks.*.pattern") as seen:
        want = model(ids, output_attentions=True).attentions
    for layer, site in enumerate(seen):
        torch.testing.assert_close(seen[site], want[layer], atol=0, rtol=0)
        assert seen[site].sum(-1).max() < 1  # the rest went to the sink


def test_a_position_bias_is_part_of_the_pattern() -> None:
    model, inputs = families.build("t5"), families.batch("t5")
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["attention_mask"][0, 4:] = 0
    sites = ["encoder.blocks.*.pattern", "blocks.*.pattern"]
    with torch.no_grad():
        plain = model(**inputs).logits
        with capture(model, sites) as seen:
            assert torch.equal(model(**inputs).logits, plain)
        model.set_attn_implementation("eager")
        want = model(**inputs, output_attentions=True)
    for layer, pattern in enumerate(want.decoder_attentions):
        torch.testing.assert_close(seen[f"blocks.{layer}.pattern"], pattern, atol=1e-5, rtol=1e-4)
    for layer, pattern in enumerate(want.encoder_attentions):
        got = seen[f"encoder.blocks.{layer}.pattern"]
        torch.testing.assert_close(got, pattern, atol=1e-5, rtol=1e-4)


def test_a_block_mask_of_flex_attention_is_read() -> None:
    kept = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]]).bool()

    def allowed(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i >= j) & kept[b, j]

    block = create_block_mask(allowed, 2, None, 7, 7, device="cpu")
    q = torch.zeros(2, 4, 7, 8)
    mask = additive_mask(block, q, q, causal=True)
    assert mask is not None
    want = torch.ones(7, 7, dtype=torch.bool).tril() & kept[:, None, None, :]
    assert torch.equal(mask == 0, want)


def _odd(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Any, **more: Any) -> Any:
    """Attends twice as sharply as its arguments say."""
    more["scaling"] = 2 * more["scaling"]
    return hf.integrations.sdpa_attention.sdpa_attention_forward(module, q, k, v, mask, **more)


def test_a_pattern_that_does_not_explain_the_output_is_refused() -> None:
    hf.AttentionInterface.register("odd", _odd)
    hf.AttentionMaskInterface.register("odd", hf.masking_utils.sdpa_mask)
    try:
        model, inputs = families.build("llama"), families.batch("llama")
        model.set_attn_implementation("odd")
        with torch.no_grad(), capture(model, ["blocks.1.q", "blocks.1.z"]) as seen:
            model(**inputs)
        assert len(seen) == 2
        with (
            pytest.raises(ValueError, match="does not reproduce the model's own head outputs"),
            torch.no_grad(),
            capture(model, "blocks.1.pattern"),
        ):
            model(**inputs)
    finally:
        hf.AttentionInterface._global_mapping.pop("odd")
        hf.AttentionMaskInterface._global_mapping.pop("odd")


@pytest.mark.parametrize("name", ["mamba", "rwkv"])
def test_a_module_without_attention_says_so(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    path = {"mamba": "backbone.layers.0.mixer", "rwkv": "rwkv.blocks.0.attention"}[name]
    listener = Listener(model, {"p": AttentionTap(path, "pattern")}, lambda *_: None)
    with torch.no_grad(), listener.listening():
        model(**inputs)
    assert "called neither transformers' attention interface" in listener.unreached()[0]


@pytest.mark.parametrize("causal", [False, True])
def test_plain_torch_attention_fused_and_written_out(causal: bool) -> None:
    torch.manual_seed(0)
    fused = Fused(causal).eval()
    written, x = Written(fused).eval(), torch.randn(3, 5, 16)
    one, two = overhear(fused, "", x), overhear(written, "", x)
    assert set(one) == set(two) == set(PARTS)
    for part in ("q", "pattern", "z"):
        torch.testing.assert_close(one[part], two[part])
    for part in ("k", "v"):
        assert one[part].shape == (3, 2, 5, 4)
        torch.testing.assert_close(one[part].repeat_interleave(2, 1), two[part])
    assert one["z"].shape == (3, 5, 4, 4)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("weights", [False, True])
def test_multihead_attention_of_torch(batch_first: bool, weights: bool) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 4, batch_first=batch_first).eval()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=weights)[0]  # type: ignore[no-any-return]

    x = torch.randn(2, 5, 16)
    got = overhear(Model(), "attention", x)
    _, want = attention(x, x, x, need_weights=True, average_attn_weights=False)
    torch.testing.assert_close(got["pattern"], want)
    torch.testing.assert_close(weighted(got["pattern"], got["v"]), got["z"])


def test_a_score_with_two_terms_gives_no_q() -> None:
    """DeBERTa adds products; which of two equal ones is q k^T would be a guess."""

    class Disentangled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            heads = x.unflatten(-1, (2, -1)).transpose(1, 2)
            scores = heads @ heads.mT + (heads + 1) @ heads.mT
            return (scores.softmax(-1) @ heads).transpose(1, 2).flatten(2)

    model, x = Disentangled(), torch.randn(2, 5, 8)
    assert set(overhear(model, "", x)) == {"v", "pattern", "z"}
    listener = Listener(model, {"q": AttentionTap("", "q")}, lambda *_: None)
    with listener.listening():
        model(x)
    assert "only these can be heard there: v, pattern, z" in listener.unreached()[0]


def test_another_softmax_beside_fused_attention_is_not_attention() -> None:
    class Gated(Fused):
        def forward(self, x: Tensor) -> Tensor:
            attended = super().forward(x)
            return attended + (x @ x.mT).softmax(-1) @ x

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = Gated(causal=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.shared(self.shared(x))  # type: ignore[no-any-return]

    model, x = Twice().eval(), torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    got: list[Tensor] = []
    second = {"q": AttentionTap("shared", "q", call=1)}
    listener = Listener(model, second, lambda site, tensor, _: got.append(tensor))
    with torch.no_grad(), listener.listening():
        model(x)
        want = model.shared.q(model.shared(x)).unflatten(-1, (4, 4)).transpose(1, 2)
    torch.testing.assert_close(got[0], want)


def test_overlapping_listeners_leave_nothing() -> None:
    lookup = hf.modeling_utils.AttentionInterface
    before = lookup.get_interface
    first, second = (interface.detour(lambda module, call: call.run()) for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert lookup.get_interface is not before
    second.__exit__(None, None, None)
    assert lookup.get_interface is before


def test_other_models_and_threads_are_not_heard() -> None:
    model, other = families.build("llama"), families.build("llama", seed=1)
    inputs = families.batch("llama")
    with torch.no_grad():
        want = other(**inputs).logits
        got: list[Tensor] = []

        def run() -> None:
            with torch.no_grad():
                got.append(other(**inputs).logits)

        with capture(model, SITES) as seen:
            thread = threading.Thread(target=run)
            thread.start()
            model(**inputs)
            thread.join()
            other(**inputs)
    assert all(len(seen.passes(site)) == 1 for site in SITES)
    assert torch.equal(got[0], want)


@pytest.mark.parametrize(("queries", "window"), [(6, None), (6, 3), (2, None), (1, 3)])
def test_a_padding_mask_means_what_flash_attention_makes_of_it(
    queries: int, window: int | None
) -> None:
    keys = 6
    kept = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    q, k = torch.zeros(2, 1, queries, 4), torch.zeros(2, 1, keys, 4)
    mask = additive_mask(kept, q, k, causal=True, window=window)
    assert mask is not None
    for row in range(2):
        for i in range(queries):
            for j in range(keys):
                at = i + keys - queries  # the last query stands at the last key
                allowed = kept[row, j] and kept[row, at] and j <= at
                if window is not None:
                    allowed = allowed and at - j < window
                assert bool(mask[row, 0, i, j] == 0) == bool(allowed)
