"""Positions are absolute: an edit with a cache is the same edit at every step without one."""

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
from layerscope.hooks.edits import edit
from layerscope.planted import families

STEPS = 5
WRITTEN_OUT = ("gptj", "bloom", "mpt")


def generated(model: nn.Module, inputs: dict[str, Tensor], **more: Any) -> tuple[Tensor, Tensor]:
    """Greedy tokens, and the logits that chose them [b, steps, V]."""
    settings = {"max_new_tokens": STEPS, "min_new_tokens": STEPS, "do_sample": False, **more}
    out = model.generate(
        **inputs, **settings, pad_token_id=0, output_logits=True, return_dict_in_generate=True
    )
    return out.sequences, torch.stack(out.logits, 1)


def prompt(name: str) -> dict[str, Tensor]:
    inputs: Any = families.batch(name)
    if name in families.names("seq2seq"):
        inputs = {k: x for k, x in inputs.items() if k != "decoder_input_ids"}
        start = torch.tensor([[2, 7, 11, 5], [2, 9, 3, 3]])
        return {**inputs, "decoder_input_ids": start}
    ids = inputs["input_ids"][:, :6]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def changes_for(name: str, model: nn.Module) -> dict[str, Change]:
    """One change of every kind of site, at positions of the prompt (2) and of what is generated (7)."""
    v = torch.randn(families.WIDTH, generator=torch.Generator().manual_seed(0))
    e = torch.randn(8, generator=torch.Generator().manual_seed(1))
    late = 5 if name in families.names("seq2seq") else 7
    both = [2, late]
    found = {
        "blocks.0.resid_post": edits.add(3 * v, at=both),
        "blocks.1.resid_pre": edits.add(v, at=both, keep_norm=True),
        "blocks.1.resid_mid": edits.add(v, at=2),
        "blocks.1.attn_out": edits.skip(at=both),
        "blocks.1.mlp_out": edits.scale(2.0, at=slice(1, None)),
        "blocks.1.q": edits.add(e, at=both, heads=1),
        "blocks.1.k": edits.add(e, at=both),
        "blocks.1.v": edits.set_to(e, at=2, rows=1),
        "blocks.1.pattern": edits.cut([2, late], [1]),
        "blocks.1.z": edits.zero(at=both, heads=2),
        "blocks.2.resid_post": edits.skip(at=slice(3, 8)),
    }
    return {
        site: change
        for site, change in found.items()
        if site in anatomy(model).sites
        and not (name in WRITTEN_OUT and site.endswith((".q", ".k")))
    }


@pytest.mark.parametrize(
    "name",
    [*families.names("decoder"), "mamba", "t5", "bart", "whisper"],
)
def test_with_a_cache_as_without(name: str) -> None:
    model, inputs = families.build(name), prompt(name)
    if name == "t5":  # transformers makes the decoder's cache as long as the encoder
        config = model.config.to_dict() | {"num_layers": families.LAYERS}  # type: ignore[union-attr, operator]
        model = hf.T5ForConditionalGeneration(hf.T5Config(**config)).eval()
        families.loosen_(model)
    changes = changes_for(name, model)
    assert len(changes) >= 3
    with torch.no_grad():
        plain = generated(model, inputs)
        for some in [{site: change} for site, change in changes.items()] + [changes]:
            with edit(model, some):
                tokens, logits = generated(model, inputs, use_cache=True)
            with edit(model, some):
                again, whole = generated(model, inputs, use_cache=False)
            label = ", ".join(some)
            assert torch.equal(tokens, again), label
            torch.testing.assert_close(
                logits, whole, atol=5e-5, rtol=1e-3, msg=lambda m, s=label: s + m
            )
            assert (logits - plain[1]).abs().max() > 1e-4, label


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_without_generate_too(name: str) -> None:
    """By hand: a first part, then the rest in chunks, with the cache handed on."""
    model, ids = families.build(name), families.batch(name)["input_ids"]
    changes = {0: edits.zero(at=[1, 5, 8]), "blocks.1.pattern": edits.cut([3, 7], [0, 2])}
    with torch.no_grad():
        with edit(model, changes):
            want = model(ids).logits
        with edit(model, changes):
            cache, found = None, []
            for chunk in (ids[:, :4], ids[:, 4:7], ids[:, 7:]):
                out = model(chunk, past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                found.append(out.logits)
    torch.testing.assert_close(torch.cat(found, 1), want, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3"])
def test_caches_of_other_kinds(name: str) -> None:
    """A fixed one holds room for keys to come; one with a window forgets the first keys."""
    model, inputs = families.build(name), prompt(name)
    changes = {s: c for s, c in changes_for(name, model).items() if not s.endswith(".k")}
    with torch.no_grad():
        with edit(model, changes):
            want = generated(model, inputs, use_cache=False)
        with edit(model, changes):
            got = generated(model, inputs, cache_implementation="static")
    assert torch.equal(got[0], want[0])
    torch.testing.assert_close(got[1], want[1], atol=5e-5, rtol=1e-3)


def test_a_prompt_of_one_token() -> None:
    model = families.build("llama")
    inputs = {"input_ids": torch.tensor([[5], [7]]), "attention_mask": torch.ones(2, 1).long()}
    v = torch.randn(families.WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with edit(model, {0: edits.add(3 * v, at=0)}), capture(model, 0) as seen:
            tokens, _ = generated(model, inputs)
        with capture(model, 0) as own:
            model(tokens[:, :-1])
    moved = seen.joined(0) - own[0]
    torch.testing.assert_close(moved[:, 0], 3 * v.expand(2, -1), atol=1e-5, rtol=1e-4)


def test_negative_positions_are_those_of_the_prompt() -> None:
    model, inputs = families.build("llama"), prompt("llama")
    results = []
    for at in (-1, 5):
        with (
            torch.no_grad(),
            edit(
                model,
                {
                    0: edits.zero(at=at),
                    "blocks.1.k": edits.scale(2.0, at=at),
                    "blocks.2.pattern": edits.cut(slice(at + 1 or None, None), at)
                    if at > 0
                    else edits.cut([6, 7, 8, 9], at),
                },
            ),
        ):
            results.append(generated(model, inputs))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


@pytest.mark.parametrize("at", [-1, slice(-2, None)])
@pytest.mark.parametrize("beams", [1, 3])
def test_negative_positions_stay_at_the_prompt_without_a_cache(at: Any, beams: int) -> None:
    """Every pass then begins at 0, and is one token longer than the one before."""
    model, inputs = families.build("llama"), prompt("llama")
    v = torch.randn(families.WIDTH, generator=torch.Generator().manual_seed(0))
    for site, change in {
        "blocks.0.resid_post": edits.add(3 * v, at=at),
        "blocks.1.resid_mid": edits.add(3 * v, at=at),
        "blocks.1.k": edits.scale(3.0, at=at),
        "blocks.1.z": edits.zero(at=at),
        "blocks.1.pattern": edits.cut(at, [1, 2]),
        "logits": edits.set_to(torch.arange(61.0), at=at),
    }.items():
        found = []
        for cached in (True, False):
            with torch.no_grad(), edit(model, {site: change}):
                found.append(generated(model, inputs, use_cache=cached, num_beams=beams))
        assert torch.equal(found[0][0], found[1][0]), site
        torch.testing.assert_close(found[0][1], found[1][1], atol=5e-5, rtol=1e-3)


def test_another_text_in_the_same_block_has_an_end_of_its_own() -> None:
    model = families.build("llama")
    first = torch.tensor([[5, 6, 7]])
    for other in ([[5, 6, 8, 9]], [[5, 6, 7, 8, 9]], [[5, 6]], [[5, 6, 7]]):
        with torch.no_grad(), edit(model, {0: edits.zero(at=-1)}), capture(model, 0) as seen:
            model(first)
            model(torch.tensor(other))
        assert not seen.passes(0)[1][:, -1].any()
        assert seen.passes(0)[1][:, :-1].all()


def test_a_generation_that_ends_early_keeps_its_result() -> None:
    model, inputs = families.build("llama"), prompt("llama")
    said = r"made only at .* zero \(at=\[2, 30\]\) at .* the passes had positions 0 to 9"
    with (
        pytest.warns(UserWarning, match=said),
        torch.no_grad(),
        edit(model, {0: edits.zero(at=[2, 30])}) as running,
    ):
        tokens, _ = generated(model, inputs)
    assert tokens.shape == (2, 11)
    assert "at=[2, 30]" in running.notes[0]


def test_left_padding_in_generate() -> None:
    """Positions count in the batch as it is given, pads included."""
    model = families.build("llama")
    text = torch.tensor([[7, 9, 11, 4]])
    ids = torch.cat([torch.tensor([[0, 0], [5, 6]]), text.expand(2, -1)], 1)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        with edit(model, {1: edits.zero(at=3)}):
            together = generated(model, {"input_ids": ids, "attention_mask": mask})
        with edit(model, {1: edits.zero(at=1)}):
            alone = generated(model, {"input_ids": text, "attention_mask": torch.ones_like(text)})
    assert torch.equal(together[0][0, 2:], alone[0][0])
    torch.testing.assert_close(together[1][0], alone[1][0], atol=2e-5, rtol=1e-4)


def test_swap_and_values_with_positions_are_for_the_prompt() -> None:
    model, inputs = families.build("llama"), prompt("llama")
    other = {"input_ids": inputs["input_ids"].flip(0)}
    with torch.no_grad():
        with capture(model, 0) as run:
            model(**other)
        with edit(model, {0: edits.swap(run)}), capture(model, 0) as seen:
            tokens, logits = generated(model, inputs)
        torch.testing.assert_close(seen.passes(0)[0], run[0])
        with edit(model, {0: edits.set_to(run[0])}):
            assert torch.equal(generated(model, inputs)[1], logits)
        with edit(model, {0: edits.swap(run, at=slice(0, 6))}):
            again, whole = generated(model, inputs, use_cache=False)
    assert torch.equal(again, tokens)
    torch.testing.assert_close(whole, logits, atol=5e-5, rtol=1e-3)


def test_logits_that_are_written_choose_the_tokens() -> None:
    model, inputs = families.build("llama"), prompt("llama")

    def only_nines(x: Tensor) -> Tensor:
        new = torch.full_like(x, -1e4)
        new[..., 9] = 0
        return new

    with torch.no_grad():
        with edit(model, {"logits": only_nines}):
            tokens, _ = generated(model, inputs)
        assert (tokens[:, 6:] == 9).all()
        # The prompt's pass has logits of its last position only; it keeps its number.
        for site in ("logits", "lm_head"):
            with edit(model, {site: edits.change(only_nines, at=[5, 7])}):
                tokens, _ = generated(model, inputs)
            assert (tokens[:, [6, 8]] == 9).all()
            assert not (tokens[:, [7, 9, 10]] == 9).all()


def test_beams() -> None:
    model, inputs = families.build("llama"), prompt("llama")
    change = {0: edits.zero(at=2)}
    settings = {"num_beams": 3, "num_return_sequences": 2}
    with torch.no_grad():
        with edit(model, change):
            got = model.generate(**inputs, max_new_tokens=4, pad_token_id=0, **settings)
        with edit(model, change):
            want = model.generate(
                **inputs, max_new_tokens=4, pad_token_id=0, use_cache=False, **settings
            )
    assert torch.equal(got, want)


def test_a_recurrent_cache_that_was_filled_elsewhere() -> None:
    for name in ("mamba", "rwkv"):
        model, ids = families.build(name), families.batch(name)["input_ids"]
        memory = "cache_params" if name == "mamba" else "state"
        with torch.no_grad():
            out = model(ids[:, :6], use_cache=True)
            expected = pytest.raises(ValueError, match="filled outside the edit")
            with expected, edit(model, {0: edits.zero(at=7)}):
                model(ids[:, 6:7], use_cache=True, **{memory: out[memory]})
            out = model(ids[:, :6], use_cache=True)
            with edit(model, {0: edits.zero()}), capture(model, 0) as seen:
                model(ids[:, 6:7], use_cache=True, **{memory: out[memory]})
        assert not seen[0].any()


def test_positions_are_counted_where_no_cache_tells_them() -> None:
    """One row alone: in larger batches, RWKV's own state mixes the rows."""
    model = families.build("rwkv")
    inputs = {"input_ids": prompt("rwkv")["input_ids"][:1]}
    v = torch.randn(families.WIDTH, generator=torch.Generator().manual_seed(0))
    change = {0: edits.set_to(v, at=[2, 7, 9])}
    with torch.no_grad():
        with edit(model, change), capture(model, 0) as seen:
            got = generated(model, inputs)
        with edit(model, change):
            want = generated(model, inputs, use_cache=False)
    found = (seen.joined(0) == v).all(-1)[0]
    assert found.nonzero().flatten().tolist() == [2, 7, 9]
    assert torch.equal(got[0], want[0])
    torch.testing.assert_close(got[1], want[1], atol=5e-5, rtol=1e-3)


def test_an_encoder_is_edited_once_while_its_decoder_generates() -> None:
    model, inputs = families.build("bart"), prompt("bart")
    changes = {
        "encoder.blocks.0.resid_post": edits.zero(at=3),
        "encoder.blocks.1.pattern": edits.cut([4], [-1]),
        "blocks.0.resid_post": edits.zero(at=1),
    }
    with torch.no_grad():
        with edit(model, changes):
            want = generated(model, inputs, use_cache=False)
        with edit(model, changes):
            got = generated(model, inputs)
    assert torch.equal(got[0], want[0])
    torch.testing.assert_close(got[1], want[1], atol=5e-5, rtol=1e-3)


def test_a_position_that_generation_never_came_to() -> None:
    model, inputs = families.build("llama"), prompt("llama")
    expected = pytest.raises(IndexError, match=r"zero \(at=20\).* the passes had positions 0 to 9")
    with torch.no_grad(), expected, edit(model, {0: edits.zero(at=20)}):
        generated(model, inputs)


def test_the_real_model(shared_data: Any) -> None:
    folder = shared_data / "stories260K" / "hf"
    if not folder.is_dir():
        pytest.skip("stories260K is not there")
    model = hf.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    inputs = dict(tokenizer("Once upon a time, there was a", return_tensors="pt"))
    inputs.pop("token_type_ids", None)
    v = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    changes = {2: edits.add(v, at=3), "blocks.1.pattern": edits.cut(slice(5, None), [2])}
    with torch.no_grad():
        plain = generated(model, inputs, max_new_tokens=20)
        with edit(model, changes):
            got = generated(model, inputs, max_new_tokens=20)
        with edit(model, changes):
            want = generated(model, inputs, max_new_tokens=20, use_cache=False)
    assert torch.equal(got[0], want[0])
    torch.testing.assert_close(got[1], want[1], atol=1e-4, rtol=1e-3)
    assert (got[1] - plain[1]).abs().max() > 1e-2
