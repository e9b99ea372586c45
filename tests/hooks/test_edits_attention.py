"""Edits inside attention: cut edges, and changes to `q k v pattern z`, against attention by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from layerscope.hooks import edits
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.editing.change import Change
from layerscope.hooks.editing.writing import Writer
from layerscope.hooks.edits import edit
from layerscope.hooks.places import AttentionTap
from layerscope.planted import families
from layerscope.planted.two_attentions import Fused, Written

DECODERS = list(families.names("decoder"))
ATTENTIVE = [
    *DECODERS,
    *families.names("encoder"),
    *families.names("vision"),
    *families.names("seq2seq"),
]
WRITTEN_OUT = ("gptj", "bloom", "mpt")
PARTS = ("q", "k", "v", "pattern", "z")
SITES = [f"blocks.1.{part}" for part in PARTS]


def logits(model: nn.Module, inputs: Any) -> Tensor:
    with torch.no_grad():
        return model(**inputs).logits  # type: ignore[no-any-return]


def padded(name: str) -> dict[str, Tensor]:
    """Two rows, the first with four pads on the left."""
    ids = families.batch(name)["input_ids"]  # type: ignore[call-overload]
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    if name in ("gpt2", "gptj"):
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)
    return inputs


def without(pattern: Tensor, *index: Any) -> Tensor:
    """Probabilities with some at zero, the others sharing what they had."""
    new = pattern.clone()
    new[index] = 0
    return new / new.sum(-1, keepdim=True).clamp_min(1e-30)


def weighted(pattern: Tensor, v: Tensor) -> Tensor:
    v = v.repeat_interleave(pattern.shape[1] // v.shape[1], 1)
    return (pattern @ v).transpose(1, 2)


def seen_at(model: nn.Module, inputs: Any, sites: list[str]) -> dict[str, Tensor]:
    with torch.no_grad(), capture(model, sites) as seen:
        model(**inputs)
    return dict(seen)


@pytest.mark.parametrize("name", ATTENTIVE)
def test_a_cut_edge_is_exactly_zero_and_the_rest_is_attention_by_hand(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    own = seen_at(model, inputs, SITES)
    change = edits.cut(queries=[4, 7], keys=[0, 3], heads=[1, 2], rows=1)
    with torch.no_grad(), edit(model, {SITES[3]: change}) as running, capture(model, SITES) as seen:
        model(**inputs)
    index = torch.meshgrid(
        torch.tensor([1, 2]), torch.tensor([4, 7]), torch.tensor([0, 3]), indexing="ij"
    )
    pattern = seen[SITES[3]]
    assert (pattern[1][index] == 0).all()
    want = own[SITES[3]].clone()
    want[1] = without(want[1], *index)
    torch.testing.assert_close(pattern, want, atol=2e-6, rtol=1e-4)
    z = weighted(want, own[SITES[2]])
    torch.testing.assert_close(seen[SITES[4]], z, atol=1e-5, rtol=1e-4)
    assert (z - own[SITES[4]]).abs().max() > 1e-4
    assert running.notes == ()  # every kernel here takes a mask, so none is replaced
    with torch.no_grad(), edit(model, {SITES[4]: edits.set_to(z)}):
        by_hand = model(**inputs).logits
    with torch.no_grad(), edit(model, {SITES[3]: change}):
        torch.testing.assert_close(model(**inputs).logits, by_hand, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*DECODERS, "bert", "distilbert"])
def test_a_cut_joins_the_mask_of_a_padded_batch(name: str) -> None:
    model, inputs = families.build(name), padded(name)
    own = seen_at(model, inputs, SITES)
    with (
        torch.no_grad(),
        edit(model, {SITES[3]: edits.cut([-1, 6], [5, 7])}),
        capture(model, SITES[3]) as seen,
    ):
        assert model(**inputs).logits.isfinite().all()
    real = inputs["attention_mask"].bool()
    want = own[SITES[3]].clone()
    index = torch.meshgrid(
        torch.arange(2), torch.arange(4), torch.tensor([8, 6]), torch.tensor([5, 7]), indexing="ij"
    )
    want = without(want, *index)
    got = seen[SITES[3]].transpose(1, 2)[real]
    torch.testing.assert_close(got, want.transpose(1, 2)[real], atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("least", [torch.finfo(torch.float32).min, -torch.inf])
def test_a_mask_of_the_users_own_is_joined_without_nan(implementation: str, least: float) -> None:
    """The same edges forbidden by a 4-D mask for the whole model."""
    model, inputs = families.build("llama"), families.batch("llama")
    model.set_attn_implementation(implementation)
    causal = torch.zeros(1, 1, 9, 9).masked_fill(torch.ones(9, 9).triu(1).bool(), least)
    cut = causal.clone()
    cut[..., 6, [0, 2]] = least
    want = logits(model, {**inputs, "attention_mask": cut})
    with edit(model, {"blocks.*.pattern": edits.cut(6, [0, 2])}):
        got = logits(model, {**inputs, "attention_mask": causal})
        alone = logits(model, inputs)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(alone, want, atol=1e-5, rtol=1e-4)
    # Cutting what is forbidden already.
    with edit(model, {"blocks.*.pattern": edits.cut(6, [0, 2, 8])}):
        torch.testing.assert_close(
            logits(model, {**inputs, "attention_mask": cut}), want, atol=1e-6, rtol=1e-5
        )


@pytest.mark.parametrize("name", ["llama", "gemma2", "falcon", "bloom"])
def test_nothing_cut_is_the_baseline(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    plain = logits(model, inputs)
    for change in (
        edits.cut(queries=[], keys=[1]),
        edits.cut([5], []),
        edits.cut([5], [1], heads=[]),
    ):
        with edit(model, {"blocks.*.pattern": change}):
            assert torch.equal(logits(model, inputs), plain)


@pytest.mark.parametrize("name", ["llama", "gemma2", "falcon", "bloom", "vit"])
def test_a_query_left_without_any_key_is_refused(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    expected = pytest.raises(
        ValueError, match=r"'blocks\.1\.pattern' leaves a query without any key: query 2"
    )
    with expected, edit(model, {"blocks.1.pattern": edits.cut([2], None)}):
        logits(model, inputs)
    if name != "vit":
        expected = pytest.raises(
            ValueError, match=r"query 0 of this pass \(row 1, head 3\), 1 in all"
        )
        with expected, edit(model, {"blocks.1.pattern": edits.cut(keys=[0], heads=3, rows=1)}):
            logits(model, inputs)
    # Two cuts that together leave nothing.
    both = [edits.cut([1], [0]), edits.cut([1], [1])]
    if name != "vit":
        expected = pytest.raises(ValueError, match="leaves a query without any key: query 1")
        with expected, edit(model, {"blocks.1.pattern": both}):
            logits(model, inputs)


def test_pads_without_a_key_are_no_reason_to_refuse() -> None:
    model, inputs = families.build("llama"), padded("llama")
    with edit(model, {"blocks.*.pattern": edits.cut([8], [5])}):
        assert logits(model, inputs).isfinite().all()


def test_heads_of_a_cut_are_query_heads_in_grouped_attention() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    own = seen_at(model, inputs, SITES)
    assert own["blocks.1.k"].shape[1] == 2
    with (
        torch.no_grad(),
        edit(model, {SITES[3]: edits.cut([5], [1], heads=3)}),
        capture(model, SITES[3]) as seen,
    ):
        model(**inputs)
    assert seen[SITES[3]][:, 3, 5, 1].abs().max() == 0
    torch.testing.assert_close(seen[SITES[3]][:, :3], own[SITES[3]][:, :3])


def test_each_row_can_have_its_own_edges() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    change = edits.cut(torch.tensor([[4], [8]]), torch.tensor([[1, 2], [0, 3]]))
    with torch.no_grad(), edit(model, {SITES[3]: change}), capture(model, SITES[3]) as seen:
        model(**inputs)
    zero = seen[SITES[3]] == 0
    future = torch.ones(9, 9).triu(1).bool()
    cut = (zero & ~future)[:, 0].nonzero().tolist()
    assert cut == [[0, 4, 1], [0, 4, 2], [1, 8, 0], [1, 8, 3]]


def _deaf(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Any, **more: Any) -> Any:
    """Like a flash kernel: knows causality and 2-D padding, takes no other mask."""
    assert mask is None or mask.ndim == 2
    dense = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
    if mask is not None:
        dense = dense & mask[:, None, None, :].bool()
    return hf.integrations.sdpa_attention.sdpa_attention_forward(module, q, k, v, dense, **more)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_kernel_that_takes_no_masks_is_continued_written_out(name: str) -> None:
    hf.AttentionInterface.register("flash_planted", _deaf)
    hf.AttentionMaskInterface.register("flash_planted", hf.masking_utils.flash_attention_mask)
    try:
        model, inputs = families.build(name), padded(name)
        change = {"blocks.*.pattern": edits.cut([8], [5, 6])}
        with edit(model, change):
            want = logits(model, inputs)
        model.config._attn_implementation = "flash_planted"
        plain = logits(model, inputs)
        with edit(model, change) as running, capture(model, SITES[3]) as seen:
            got = logits(model, inputs)
        assert any("takes no masks" in note for note in running.notes)
        real = inputs["attention_mask"].bool()
        torch.testing.assert_close(got[real], want[real], atol=2e-5, rtol=1e-4)
        assert (got - plain)[real].abs().max() > 1e-3
        assert seen[SITES[3]][:, :, 8, 5:7].abs().max() == 0
    finally:
        hf.AttentionInterface._global_mapping.pop("flash_planted")
        hf.AttentionMaskInterface._global_mapping.pop("flash_planted")


@pytest.mark.parametrize("name", ATTENTIVE)
def test_a_changed_pattern_weighs_the_values(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    own = seen_at(model, inputs, SITES)
    pattern, v = own[SITES[3]], own[SITES[2]]
    even = torch.full_like(pattern, 1 / pattern.shape[-1])
    with (
        torch.no_grad(),
        edit(model, {SITES[3]: edits.set_to(even)}) as running,
        capture(model, SITES[4]) as seen,
    ):
        model(**inputs)
    z = weighted(even, v)
    torch.testing.assert_close(seen[SITES[4]], z, atol=1e-5, rtol=1e-4)
    fused = name not in (*WRITTEN_OUT, "gemma2")
    assert any("written out" in note for note in running.notes) is fused
    # One head, one query: everything else as the model's own.
    with (
        torch.no_grad(),
        edit(model, {SITES[3]: edits.zero(at=3, heads=1)}),
        capture(model, SITES[4]) as seen,
    ):
        model(**inputs)
    want = own[SITES[4]].clone()
    want[:, 3, 1] = 0
    torch.testing.assert_close(seen[SITES[4]], want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [n for n in ATTENTIVE if n not in WRITTEN_OUT])
def test_q_and_k_are_written_as_attention_uses_them(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    own = seen_at(model, inputs, SITES)
    with torch.no_grad(), edit(model, {SITES[0]: edits.zero(at=5)}), capture(model, SITES) as seen:
        model(**inputs)
    assert not seen[SITES[0]][:, :, 5].any()
    z = weighted(seen[SITES[3]], own[SITES[2]])
    torch.testing.assert_close(seen[SITES[4]], z, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        seen[SITES[3]][:, :, 4], own[SITES[3]][:, :, 4], atol=1e-6, rtol=1e-5
    )
    assert (seen[SITES[3]] - own[SITES[3]])[:, :, 5].abs().max() > 1e-3
    # A query made of another position's query, its key of another's key: a score by hand.
    q, k = own[SITES[0]].clone(), own[SITES[1]].clone()
    q[:, :, 6], k[:, :, 2] = q[:, :, 1], k[:, :, 5]
    changes = {SITES[0]: edits.set_to(q), SITES[1]: edits.set_to(k[:, :, 2:3], at=2)}
    with torch.no_grad(), edit(model, changes), capture(model, SITES) as seen:
        model(**inputs)
    torch.testing.assert_close(seen[SITES[0]], q)
    torch.testing.assert_close(seen[SITES[1]], k)
    if name in ("llama", "qwen3", "mistral", "opt", "vit", "bert"):
        scores = q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).mT / 8**0.5
        if name in ("llama", "qwen3", "mistral", "opt"):
            scores = scores.masked_fill(torch.ones(9, 9).triu(1).bool(), -torch.inf)
        if name != "opt":  # scales its queries before
            torch.testing.assert_close(seen[SITES[3]], scores.softmax(-1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_q_of_attention_that_is_written_out_is_refused_with_what_is_possible(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    for site in SITES[:2]:
        expected = pytest.raises(
            ValueError, match=f"'{site}' cannot be written: .* v, pattern and z can"
        )
        with expected, edit(model, {site: edits.zero()}):
            logits(model, inputs)


@pytest.mark.parametrize("name", ATTENTIVE)
def test_values_and_head_outputs(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    own = seen_at(model, inputs, SITES)
    with (
        torch.no_grad(),
        edit(model, {SITES[2]: edits.scale(3.0, at=2)}),
        capture(model, SITES) as seen,
    ):
        model(**inputs)
    v = own[SITES[2]].clone()
    v[:, :, 2] *= 3
    torch.testing.assert_close(seen[SITES[2]], v)
    torch.testing.assert_close(seen[SITES[4]], weighted(own[SITES[3]], v), atol=1e-5, rtol=1e-4)
    with torch.no_grad(), edit(model, {SITES[4]: edits.zero(heads=[0, 2])}):
        zeroed = logits(model, inputs)
    z = own[SITES[4]].clone()
    z[:, :, [0, 2]] = 0
    with torch.no_grad(), edit(model, {SITES[4]: edits.set_to(z)}):
        torch.testing.assert_close(logits(model, inputs), zeroed, atol=1e-6, rtol=1e-5)
    place = anatomy(model).sites["blocks.1.attn_out"]
    assert (zeroed - logits(model, inputs)).abs().max() > 1e-4, place


def written(model: nn.Module, path: str, part: Any, change: Change, *inputs: Any) -> Tensor:
    """The output with a change at an attention module, without asking the anatomy."""
    site = f"blocks.0.{part}"
    writer = Writer(model, {})
    writer.changes = {site: [change]}
    writer.plan.attention[site] = writer.plan.places[site] = AttentionTap(path, part)
    writer.attention = type(writer.attention)(writer, writer.plan.attention)
    with torch.no_grad(), writer.writing():
        out: Tensor = model(*inputs)
    assert site in writer.reached
    return out


@pytest.mark.parametrize("causal", [False, True])
def test_plain_torch_attention_fused_and_written_out(causal: bool) -> None:
    torch.manual_seed(0)
    fused = Fused(causal).eval()
    eager, x = Written(fused).eval(), torch.randn(3, 5, 16)
    cases = [
        ("pattern", edits.cut([3, 4], [1, 2], heads=[0, 3], rows=[0, 2])),
        ("pattern", edits.zero(at=2, heads=1)),
        ("z", edits.scale(2.0, heads=3, at=4)),
    ]
    with torch.no_grad():
        plain = fused(x)
    for part, change in cases:
        one, two = (written(model, "", part, change, x) for model in (fused, eager))
        torch.testing.assert_close(one, two)
        assert (one - plain).abs().max() > 1e-4
    with pytest.raises(ValueError, match=r"v, pattern and z can be written"):
        written(eager, "", "q", edits.zero(), x)


@pytest.mark.parametrize("weights", [False, True])
def test_multihead_attention_of_torch(weights: bool) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 4, batch_first=True).eval()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=weights)[0]  # type: ignore[no-any-return]

    x, mask = torch.randn(2, 5, 16), torch.zeros(5, 5)
    mask[3, [0, 4]] = -torch.inf
    with torch.no_grad():
        want = attention(x, x, x, attn_mask=mask)[0]
    got = written(Model(), "attention", "pattern", edits.cut([3], [0, 4]), x)
    torch.testing.assert_close(got, want)


def test_a_softmax_that_turns_out_not_to_be_attention_is_an_error() -> None:
    class Gated(Fused):
        def forward(self, x: Tensor) -> Tensor:
            gate = (x @ x.mT).softmax(-1)
            return gate @ super().forward(x)

    torch.manual_seed(0)
    model, x = Gated(causal=False).eval(), torch.randn(2, 5, 16)
    with pytest.raises(ValueError, match="that is not its attention"):
        written(model, "", "pattern", edits.zero(), x)


def test_captures_before_and_after_meet_what_is_there_at_their_turn() -> None:
    for name in ("llama", "falcon", "bloom", "gemma2"):
        model, inputs = families.build(name), families.batch(name)
        sites = SITES[2:]
        own = seen_at(model, inputs, sites)
        with (
            torch.no_grad(),
            capture(model, sites) as outer,
            edit(model, {s: edits.scale(0.5) for s in sites}),
            capture(model, sites) as inner,
        ):
            model(**inputs)
        torch.testing.assert_close(outer[sites[0]], own[sites[0]])
        torch.testing.assert_close(inner[sites[0]], 0.5 * own[sites[0]])
        torch.testing.assert_close(outer[sites[1]], own[sites[1]], atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(inner[sites[1]], 0.5 * own[sites[1]], atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(outer[sites[2]], 0.25 * own[sites[2]], atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(inner[sites[2]], 0.125 * own[sites[2]], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_cuts_of_nested_edits_add_up(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    one, two = ({"blocks.*.pattern": edits.cut([6], [key])} for key in (1, 3))
    with edit(model, {"blocks.*.pattern": edits.cut([6], [1, 3])}):
        want = logits(model, inputs)
    with edit(model, one), edit(model, two):
        torch.testing.assert_close(logits(model, inputs), want)
