"""What an edit does to a model: the right tensor changes, nothing else does, in every family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerscope.hooks import edits
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.edits import edit
from layerscope.hooks.places import AttentionTap, Difference
from layerscope.planted import families

WRITTEN_OUT = ("gptj", "bloom", "mpt")
"""Families whose q and k cannot be written, for their attention is written out."""


def run(model: nn.Module, inputs: Any) -> Tensor:
    """The first tensor of what the model returns."""
    out = model(*inputs) if isinstance(inputs, tuple) else model(**inputs)
    return out if isinstance(out, Tensor) else out[0]


def sites_of(name: str, model: nn.Module) -> list[str]:
    """Every site that can be written; module paths where no named ones were found."""
    found = anatomy(model).sites or dict.fromkeys(path for path, _ in model.named_children())
    if name in WRITTEN_OUT:
        return [site for site in found if not site.endswith((".q", ".k"))]
    return list(found)


def seen_at(model: nn.Module, inputs: Any, sites: list[str]) -> dict[str, Tensor]:
    with torch.no_grad(), capture(model, sites) as seen:
        run(model, inputs)
    return dict(seen)


@pytest.mark.parametrize("name", families.names())
def test_the_identity_changes_no_bit(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    sites = sites_of(name, model)
    with torch.no_grad():
        plain = run(model, inputs)
        with edit(model, dict.fromkeys(sites, lambda x: x)) as running:
            edited = run(model, inputs)
    assert torch.equal(edited, plain)
    assert running.notes == ()


@pytest.mark.parametrize("name", families.names())
def test_a_site_set_to_its_own_value_is_the_baseline(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    sites = sites_of(name, model)
    own = seen_at(model, inputs, sites)
    with torch.no_grad():
        plain = run(model, inputs)
        for site in sites:
            with edit(model, {site: edits.swap(own)}):
                torch.testing.assert_close(run(model, inputs), plain, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", families.names())
def test_a_capture_inside_the_edit_sees_what_was_written(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    for site in sites_of(name, model):
        own = seen_at(model, inputs, [site])[site]
        noise = torch.randn(own.shape, generator=torch.Generator().manual_seed(1))
        want = own.clone()
        want[1] += noise[1]
        with (
            torch.no_grad(),
            capture(model, site) as before,
            edit(model, {site: edits.add(noise[1:2], rows=1)}),
            capture(model, site) as after,
        ):
            changed = run(model, inputs)
        torch.testing.assert_close(
            after[site], want, atol=2e-5, rtol=1e-4, msg=lambda m, s=site: s + m
        )
        torch.testing.assert_close(before[site], own, atol=0, rtol=0, msg=lambda m, s=site: s + m)
        with torch.no_grad():
            plain = run(model, inputs)
        torch.testing.assert_close(changed[0], plain[0], atol=2e-5, rtol=1e-4)
        # The two that do nothing: softmax does not see a constant, and a post-norm a scale.
        assert (changed[1] - plain[1]).abs().max() > 1e-4, site


@pytest.mark.parametrize("name", families.names())
def test_what_follows_an_edit_in_the_stream_moves_with_it(name: str) -> None:
    """A sublayer's contribution, and a state between sublayers, arrive in the block's output."""
    model, inputs = families.build(name), families.batch(name)
    places = anatomy(model).sites
    block = "blocks.1"
    written = [s for s in places if s.startswith(f"{block}.") and s.endswith("mlp_out")]
    for site in written:
        sites = [site, f"{block}.resid_post"]
        own = seen_at(model, inputs, sites)
        delta = torch.randn(own[site].shape, generator=torch.Generator().manual_seed(2))
        with torch.no_grad(), edit(model, {site: edits.add(delta)}), capture(model, sites) as seen:
            run(model, inputs)
        torch.testing.assert_close(seen[sites[1]] - own[sites[1]], delta, atol=2e-5, rtol=1e-4)


def hooked(
    model: nn.Module, inputs: Any, hooks: Mapping[str, Callable[..., Any]], *, pre: bool = False
) -> Tensor:
    """The reference: hand-written hooks on module paths."""
    handles = []
    for path, hook in hooks.items():
        module = model.get_submodule(path)
        add: Any = module.register_forward_pre_hook if pre else module.register_forward_hook
        handles.append(add(hook))
    try:
        with torch.no_grad():
            return run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


BLOCKS = {
    "llama": "model.layers.{}",
    "gpt2": "transformer.h.{}",
    "gpt_neox": "gpt_neox.layers.{}",
    "gptj": "transformer.h.{}",
    "gemma2": "model.layers.{}",
    "mixtral": "model.layers.{}",
}


def first(out: Any, new: Tensor) -> Any:
    return (new, *out[1:]) if isinstance(out, tuple) else new


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("kind", ["add", "set_to", "scale", "zero", "project_out", "norm", "skip"])
def test_every_change_is_what_a_hand_written_hook_does(name: str, kind: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    generator = torch.Generator().manual_seed(3)
    v, w = torch.randn(2, families.WIDTH, generator=generator)
    at = [2, 5]
    q, _ = torch.linalg.qr(torch.stack([v, w]).T)

    def by_hand(x: Tensor, before: Tensor) -> Tensor:
        new = x.clone()
        for position in at:
            for row in range(2):
                one = x[row, position]
                new[row, position] = {
                    "add": one + 3 * v,
                    "set_to": v,
                    "scale": 0.5 * one,
                    "zero": 0 * one,
                    "project_out": one - q @ (q.T @ one),
                    "norm": (one + 3 * v) / (one + 3 * v).norm() * one.norm(),
                    "skip": before[row, position],
                }[kind]
        return new

    change = {
        "add": edits.add(v, scale=3, at=at),
        "set_to": edits.set_to(v, at=at),
        "scale": edits.scale(0.5, at=at),
        "zero": edits.zero(at=at),
        "project_out": edits.project_out(torch.stack([v, w]), at=at),
        "norm": edits.add(3 * v, keep_norm=True, at=at),
        "skip": edits.skip(at=at),
    }[kind]

    def hook(module: nn.Module, args: Any, out: Any) -> Any:
        x = out[0] if isinstance(out, tuple) else out
        return first(out, by_hand(x, args[0]))

    want = hooked(model, inputs, {BLOCKS[name].format(1): hook})
    with torch.no_grad(), edit(model, {1: change}):
        got = run(model, inputs)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        assert (got - run(model, inputs)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "mixtral", "olmo2", "opt", "vit"])
def test_a_state_between_sublayers_is_written_for_both_its_readers(name: str) -> None:
    """resid_mid is read by the MLP's norm and goes on in the stream: adding to attn_out is the same."""
    model, inputs = families.build(name), families.batch(name)
    delta = torch.randn(families.WIDTH, generator=torch.Generator().manual_seed(0))
    got = []
    for site in ("blocks.1.resid_mid", "blocks.1.attn_out"):
        with torch.no_grad(), edit(model, {site: edits.add(delta, at=3)}):
            got.append(run(model, inputs))
    torch.testing.assert_close(got[0], got[1], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [n for n in families.names() if n not in families.names("plain")])
def test_a_block_skipped_and_added_again_is_the_baseline(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    close = {"atol": 2e-5, "rtol": 1e-4}
    if name not in ("mixtral", "qwen3_moe"):  # whose experts have no product in float64
        model.double()
        inputs = {k: x.double() if x.is_floating_point() else x for k, x in inputs.items()}
        close = {"atol": 1e-10, "rtol": 1e-8}
    for block in [f"blocks.{b.index}" for b in anatomy(model).blocks]:
        own = seen_at(model, inputs, [f"{block}.resid_pre", f"{block}.resid_post"])
        before, after = own.values()
        with torch.no_grad():
            plain = run(model, inputs)
            with edit(model, {f"{block}.resid_post": [edits.skip(), edits.add(after - before)]}):
                torch.testing.assert_close(run(model, inputs), plain, **close)
            with edit(model, {f"{block}.resid_post": edits.skip()}), capture(model, "all") as seen:
                assert (run(model, inputs) - plain).abs().max() > 1e-4
        torch.testing.assert_close(seen[f"{block}.resid_post"], before, atol=0, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon", "bert", "whisper", "phi"])
def test_both_sublayers_skipped_is_the_block_skipped(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    parts = [s for s in anatomy(model).sites if s.startswith("blocks.1.") and s.endswith("_out")]
    with torch.no_grad():
        with edit(model, {"blocks.1.resid_post": edits.skip()}):
            want = run(model, inputs)
        with edit(model, dict.fromkeys(parts, edits.skip())):
            got = run(model, inputs)
    torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-4)


def test_a_block_that_adds_nothing_can_be_skipped() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    layer: Any = model.model.layers[1]
    with torch.no_grad():
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        plain = run(model, inputs)
        with edit(model, {1: edits.skip()}):
            assert torch.equal(run(model, inputs), plain)


@pytest.mark.parametrize("name", ["granite"])
def test_scaled_residuals(name: str) -> None:
    """Contributions that are multiplied before they are added are differences of states."""
    import transformers as hf

    torch.manual_seed(0)
    config = hf.GraniteConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        residual_multiplier=0.22,
    )
    model, inputs = hf.GraniteForCausalLM(config).eval(), families.batch("llama")
    families.loosen_(model)
    places = anatomy(model).sites
    assert isinstance(places["blocks.1.attn_out"], Difference)
    sites = ["blocks.1.attn_out", "blocks.1.resid_mid", "blocks.1.resid_post", "blocks.1.mlp_out"]
    own = seen_at(model, inputs, sites)
    delta = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(1))
    results = []
    for site in sites[:2]:
        with torch.no_grad(), edit(model, {site: edits.add(delta)}), capture(model, sites) as seen:
            results.append(run(model, inputs))
        torch.testing.assert_close(seen["blocks.1.resid_mid"], own["blocks.1.resid_mid"] + delta)
        stream = seen["blocks.1.resid_mid"] + seen["blocks.1.mlp_out"] - seen["blocks.1.resid_post"]
        torch.testing.assert_close(stream, 0 * stream, atol=1e-5, rtol=0)
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)

    def hook(module: nn.Module, args: Any, out: Any) -> Any:  # by hand: 0.22 times what it returns
        return (out[0] + delta / 0.22, *out[1:])

    want = hooked(model, inputs, {"model.layers.1.self_attn": hook})
    torch.testing.assert_close(results[0], want, atol=1e-4, rtol=1e-3)


def test_several_changes_of_a_site_are_made_in_order() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    own = seen_at(model, inputs, ["blocks.1.resid_post"])["blocks.1.resid_post"]
    changes = [edits.scale(2.0), lambda x: x + 1, edits.zero(at=0)]
    with torch.no_grad(), edit(model, {1: changes}), capture(model, 1) as seen:
        run(model, inputs)
    want = own * 2 + 1
    want[:, 0] = 0
    torch.testing.assert_close(seen[1], want)


def test_patterns_of_sites_ints_and_lists_of_changes() -> None:
    model, inputs = families.build("gpt2"), families.batch("gpt2")
    with torch.no_grad():
        with edit(model, {"blocks.*.mlp_out": edits.zero(), -1: edits.scale(3.0)}) as running:
            got = run(model, inputs)
        with (
            edit(model, {f"transformer.h.{i}.mlp": edits.zero() for i in range(3)}),
            edit(model, {"transformer.h.2": edits.scale(3.0)}),
        ):
            assert torch.equal(run(model, inputs), got)
    assert repr(running) == (
        "Edit of GPT2LMHeadModel\n"
        "  blocks.0.mlp_out: zero\n"
        "  blocks.1.mlp_out: zero\n"
        "  blocks.2.mlp_out: zero\n"
        "  blocks.2.resid_post: scale(3)"
    )


def test_shared_blocks_are_written_one_by_one() -> None:
    model, inputs = families.build("albert"), families.batch("albert")
    own = seen_at(model, inputs, ["all"])
    with torch.no_grad(), edit(model, {1: edits.zero()}), capture(model, "all") as seen:
        run(model, inputs)
    torch.testing.assert_close(seen[0], own["blocks.0.resid_post"], atol=0, rtol=0)
    assert not seen[1].any()
    assert seen[2].any()


@pytest.mark.parametrize("name", ["falcon", "llama"])
def test_the_users_tensors_are_never_written_into(name: str) -> None:
    """Falcon adds in place to what its MLP returned."""
    model, inputs = families.build(name), families.batch(name)
    own = seen_at(model, inputs, ["blocks.0.mlp_out"])["blocks.0.mlp_out"]
    vector, whole, kept = torch.randn(families.WIDTH), own + 1, own + 1
    for change in (edits.set_to(vector), edits.set_to(whole), lambda x: whole):
        with torch.no_grad(), edit(model, {"blocks.0.mlp_out": change}):
            run(model, inputs)
    assert torch.equal(whole, kept)
    with torch.no_grad(), edit(model, {"blocks.0.mlp_out": edits.set_to(vector)}):
        one = run(model, inputs)
    with torch.no_grad(), edit(model, {"blocks.0.mlp_out": edits.set_to(vector.clone())}):
        assert torch.equal(run(model, inputs), one)


def test_a_function_may_write_into_its_argument() -> None:
    model, inputs = families.build("llama"), families.batch("llama")

    def clear(x: Tensor) -> Tensor:
        x[:, 3] = 0
        return x

    with torch.no_grad():
        with edit(model, {"embed": clear}), capture(model, "embed") as seen:
            got = run(model, inputs)
        with edit(model, {"embed": edits.zero(at=3)}):
            assert torch.equal(run(model, inputs), got)
        assert seen["embed"][:, 2].any()
        with edit(model, {"model.embed_tokens": clear}):
            assert torch.equal(run(model, inputs), got)
        vectors = model.model.embed_tokens(inputs["input_ids"])
        kept = vectors.clone()
        with edit(model, {"embed": clear}):
            assert torch.equal(model(inputs_embeds=vectors).logits, got)
        assert torch.equal(vectors, kept)


def test_rows_positions_and_heads_are_those_chosen() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    sites = ["blocks.1.z", "blocks.1.q", "blocks.1.resid_pre"]
    own = seen_at(model, inputs, sites)
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"at": 3}, (slice(None), [3])),
        ({"at": -1}, (slice(None), [8])),
        ({"at": slice(2, 8, 3)}, (slice(None), [2, 5])),
        ({"at": slice(-2, None)}, (slice(None), [7, 8])),
        ({"at": [0, -2], "rows": 1}, ([1], [0, 7])),
        ({"rows": -1}, ([1], slice(None))),
        ({"rows": slice(0, 1)}, ([0], slice(None))),
        ({"at": torch.tensor([[0], [5]])}, ([0, 1], [0, 5])),
        ({"at": torch.tensor([[0, 1], [5, -1]]), "rows": [1, 0]}, ([1, 1, 0, 0], [0, 1, 5, 8])),
    ]
    for site in sites:
        for where, (rows, positions) in cases:
            for heads in [None, 2, [1, -1]] if site != sites[2] else [None]:
                more = {} if heads is None else {"heads": heads}
                with (
                    torch.no_grad(),
                    edit(model, {site: edits.zero(**where, **more)}),
                    capture(model, site) as seen,
                ):
                    run(model, inputs)
                want = own[site].transpose(1, 2).clone() if site[-1] == "q" else own[site].clone()
                mask = torch.zeros(want.shape[:2], dtype=torch.bool)
                if (
                    isinstance(rows, slice)
                    or isinstance(positions, slice)
                    or where.get("rows") == 1
                ):
                    for row in torch.arange(2)[rows].tolist():
                        mask[row, positions] = True
                else:
                    mask[rows, positions] = True
                if heads is None:
                    want[mask] = 0
                else:
                    picked = want[mask]
                    picked[:, heads] = 0
                    want[mask] = picked
                got = seen[site].transpose(1, 2) if site[-1] == "q" else seen[site]
                torch.testing.assert_close(got, want, atol=0, rtol=0)


def test_values_are_aligned_with_the_chosen_rows_and_positions() -> None:
    x = torch.arange(2 * 4 * 3.0).reshape(2, 4, 3)
    values = 100 + torch.arange(2 * 2 * 3.0).reshape(2, 2, 3)
    new = edits.set_to(values, at=[3, 1], rows=[1, 0]).applied(x, "embed")
    assert torch.equal(new[1, [3, 1]], values[0])
    assert torch.equal(new[0, [3, 1]], values[1])
    assert torch.equal(new[:, [0, 2]], x[:, [0, 2]])
    # A row for each prompt, at one position, may come without the axis of positions.
    one = edits.set_to(values[:, 0], at=2).applied(x, "embed")
    assert torch.equal(one[:, 2], values[:, 0])
    # The second half of the positions, in a pass that begins there.
    part = edits.set_to(values, at=[1, 2]).applied(x[:, 2:], "embed", offset=2)
    assert torch.equal(part[:, 0], values[:, 1])
    assert torch.equal(part[:, 1], x[:, 3])
    # Own positions for each row, of which the first row's first is not in this pass.
    own = edits.set_to(values, at=torch.tensor([[1, 2], [2, 3]])).applied(
        x[:, 2:], "embed", offset=2
    )
    assert torch.equal(own[0], torch.stack([values[0, 1], x[0, 3]]))
    assert torch.equal(own[1], values[1])
    sliced = edits.set_to(values, at=slice(1, 3)).applied(x[:, 2:], "embed", offset=2)
    assert torch.equal(sliced, part)


def test_a_change_moved_to_other_rows_of_a_bigger_batch() -> None:
    x = torch.arange(5 * 2 * 3.0).reshape(5, 2, 3)
    values = torch.tensor([[1.0], [2.0], [3.0]])[:, :, None].expand(3, 1, 3)
    moved = edits.set_to(values, at=1).on(torch.tensor([4, -1, 0])).applied(x, "embed")
    want = x.clone()
    want[4, 1], want[0, 1] = 1.0, 3.0
    assert torch.equal(moved, want)
    only = edits.set_to(values[1:], at=1, rows=[1, 2]).on(torch.tensor([4, 1, 0]))
    want = x.clone()
    want[1, 1], want[0, 1] = 2.0, 3.0
    assert torch.equal(only.applied(x, "embed"), want)
    own = torch.tensor([[0], [1], [0]])
    each = edits.zero(at=own).on(torch.tensor([2, 0, 3])).applied(x, "embed")
    want = x.clone()
    want[2, 0], want[0, 1], want[3, 0] = 0, 0, 0
    assert torch.equal(each, want)
    assert edits.zero().on(torch.tensor([-1])).applied(x, "embed") is x


def test_resample_takes_another_row_and_the_global_generator_does_not_move() -> None:
    x = torch.arange(5.0)[:, None, None].expand(5, 4, 3)
    state = torch.get_rng_state()
    new = edits.resample(seed=3).applied(x, "embed")
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(new[:, 0, 0].tolist()) == [0, 1, 2, 3, 4]
    assert not (new == x).any()
    assert torch.equal(new, edits.resample(seed=3).applied(x, "embed"))
    assert not torch.equal(new, edits.resample(seed=4).applied(x, "embed"))
    one = edits.resample(seed=3, rows=[2], at=1).applied(x, "embed")
    assert torch.equal(one[2, 1], new[2, 1])
    assert torch.equal(one[[0, 1, 3, 4]], x[[0, 1, 3, 4]])
    lane = edits.resample(seed=3).on(torch.tensor([3, 0])).applied(x, "embed")
    assert lane[[3, 0], 0, 0].tolist() == [0, 3]
    pool = 10 + torch.arange(7.0)[:, None].expand(7, 3)
    drawn = edits.resample(pool, seed=1).applied(x, "embed")
    assert len(drawn[..., 0].unique()) > 3
    # With a cache the later pass draws what a whole pass draws there.
    later = edits.resample(pool, seed=1).applied(x[:, 3:], "embed", offset=3)
    assert torch.equal(later[:, 0], drawn[:, 3])
    assert torch.equal(edits.resample(pool, seed=1).applied(x[:, :2], "embed"), drawn[:, :2])
    texts = torch.arange(2.0)[:, None, None] * 10 + torch.arange(4.0)[:, None].expand(4, 3)
    taken = edits.resample(texts, seed=1).applied(x, "embed")
    assert torch.equal(taken[..., 0] % 10, torch.arange(4.0).expand(5, 4))
    assert {0.0, 10.0} == set(taken[:, 0, 0].tolist())


def test_mean_leaves_out_padding() -> None:
    model, ids = families.build("llama"), families.batch("llama")["input_ids"]
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    own = seen_at(model, {"input_ids": ids, "attention_mask": mask}, ["embed"])["embed"]
    with torch.no_grad(), edit(model, {"embed": edits.mean(at=5)}), capture(model, "embed") as seen:
        model(input_ids=ids, attention_mask=mask)
    torch.testing.assert_close(seen["embed"][:, 5], own[mask.bool()].mean(0).expand(2, -1))
    torch.testing.assert_close(seen["embed"][:, 4], own[:, 4])
    given = torch.randn(families.WIDTH)
    assert torch.equal(edits.mean(given, at=1).applied(own, "embed")[0, 1], given)
    assert repr(edits.mean(given, at=1)) == "mean (at=1)"


def test_mean_leaves_out_padding_where_its_batch_is_a_part_of_another() -> None:
    x = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    real = torch.ones(5, 4, dtype=torch.bool)
    real[3, :2] = False
    own = torch.tensor([3, 1])
    found = edits.mean(at=2).on(own).applied(x, "embed", real=real)
    want = x.clone()
    want[own, 2] = torch.cat([x[3, 2:], x[1]]).mean(0)
    torch.testing.assert_close(found, want)


def test_dependent_directions_take_out_their_span_and_no_more() -> None:
    generator = torch.Generator().manual_seed(0)
    v, w, x = (torch.randn(8, generator=generator, dtype=torch.float64) for _ in range(3))
    x = x.expand(1, 1, 8)
    want = edits.project_out(torch.stack([v, w])).applied(x, "embed")
    got = edits.project_out(torch.stack([v, -3 * v, w, v + w])).applied(x, "embed")
    torch.testing.assert_close(got, want)
    assert (got @ v).abs() < 1e-12
    assert (got @ w).abs() < 1e-12
    everything = edits.project_out(torch.randn(11, 8, generator=generator)).applied(x, "embed")
    assert everything.abs().max() < 1e-5


def test_gradients_flow_through_an_edit() -> None:
    model, inputs = families.build("llama").requires_grad_(False), families.batch("llama")
    for site in ("blocks.1.resid_post", "blocks.1.resid_mid", "blocks.1.q", "blocks.1.pattern"):
        place = anatomy(model).sites[site]
        shape = seen_at(model, inputs, [site])[site].shape
        v = torch.zeros(shape[-1], requires_grad=True)
        at = 8 if isinstance(place, AttentionTap) else 4
        with edit(model, {site: edits.add(v, at=at)}):
            run(model, inputs)[:, -1, 5].sum().backward()
        step = 1e-2
        assert v.grad is not None
        with torch.no_grad():
            found = []
            for sign in (1, -1):
                with edit(model, {site: edits.add(v.grad, scale=sign * step, at=at)}):
                    found.append(run(model, inputs)[:, -1, 5].sum())
        slope = (found[0] - found[1]) / (2 * step)
        torch.testing.assert_close(slope, v.grad.square().sum(), atol=1e-3, rtol=2e-2)


def test_nested_edits_are_made_in_the_order_of_the_document() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    for site in ("blocks.1.resid_post", "blocks.1.q", "blocks.1.pattern", "blocks.1.z"):
        with torch.no_grad():
            with edit(model, {site: [edits.scale(0.5), lambda x: x + 0.1, edits.scale(2.0)]}):
                want = run(model, inputs)
            with (
                edit(model, {site: edits.scale(0.5)}),
                capture(model, site) as between,
                edit(model, {site: [lambda x: x + 0.1, edits.scale(2.0)]}),
            ):
                got = run(model, inputs)
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            between[site], seen_at(model, inputs, [site])[site] * 0.5, atol=1e-6, rtol=1e-4
        )


def test_an_outer_skip_skips_what_an_inner_edit_let_in() -> None:
    model, inputs = families.build("bert"), families.batch("bert")
    inner = {"blocks.1.resid_pre": edits.scale(2.0)}
    for outer in ({1: edits.skip()}, {"blocks.1.attn_out": edits.skip()}):
        with torch.no_grad():
            with edit(model, {**inner, **outer}):
                want = run(model, inputs)
            with edit(model, outer), edit(model, inner):
                torch.testing.assert_close(run(model, inputs), want)
            with edit(model, inner), edit(model, outer):
                torch.testing.assert_close(run(model, inputs), want)


def test_a_batch_is_its_rows_with_left_padding() -> None:
    for name in ("llama", "gpt2", "gemma2", "gptj", "bloom", "falcon"):
        model = families.build(name)
        texts = [torch.arange(3, 3 + n) * (n + 1) % 50 + 3 for n in (5, 9, 2)]
        most = max(map(len, texts))
        ids = torch.stack([torch.cat([torch.zeros(most - len(t)).long(), t]) for t in texts])
        mask = (ids > 0).long()
        inputs = {"input_ids": ids, "attention_mask": mask}
        if name in ("gpt2", "gptj"):
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)
        v = torch.randn(families.WIDTH, generator=torch.Generator().manual_seed(0))
        changes = {
            0: edits.add(v, at=-1),
            "blocks.1.z": edits.zero(heads=1),
            "blocks.2.pattern": edits.cut([-1], [-2]),
        }
        with torch.no_grad():
            with edit(model, changes):
                together = model(**inputs).logits
            for row, text in enumerate(texts):
                with edit(model, changes):
                    alone = model(input_ids=text[None]).logits[0]
                got = together[row, most - len(text) :]
                torch.testing.assert_close(got, alone, atol=2e-5, rtol=1e-4)


class Fading(nn.Module):
    """A block that keeps half of its stream beside what its second sublayer adds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_1, self.first = nn.LayerNorm(width), nn.Linear(width, width)
        self.norm_2, self.second = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(self.norm_1(x))
        return 0.5 * x + self.second(self.norm_2(x))  # type: ignore[no-any-return]


def test_a_stream_that_fades_carries_half_of_a_change() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(Fading(8) for _ in range(3))).eval()
    x, delta = torch.randn(4, 5, 8), torch.randn(8)
    places = anatomy(model, example=x).sites
    assert isinstance(places["blocks.1.mlp_2_out"], Difference)
    sites = ["blocks.1.resid_mid", "blocks.1.mlp_2_out", "blocks.1.resid_post"]
    with torch.no_grad(), edit(model, {sites[0]: edits.add(delta)}), capture(model, sites) as seen:
        model(x)
    block: Any = model[1]
    with torch.no_grad():
        entering = model[0](x)
        mid = entering + block.first(block.norm_1(entering)) + delta
        want = 0.5 * mid + block.second(block.norm_2(mid))
    torch.testing.assert_close(seen[sites[0]], mid)
    torch.testing.assert_close(seen[sites[2]], want, atol=1e-5, rtol=1e-5)


def test_a_module_that_adds_to_its_input_in_place_can_be_skipped() -> None:
    class InPlace(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            x += super().forward(x)
            return x

    model, x = nn.Sequential(nn.Linear(3, 3), InPlace(3, 3)), torch.ones(2, 3)
    with torch.no_grad(), edit(model, {"1": edits.skip()}):
        assert torch.equal(model(x), model[0](x))
