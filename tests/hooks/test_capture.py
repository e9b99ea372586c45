"""What capture sees: the right tensor, a safe copy, and the same for one text as for a batch."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor, nn

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture, watch
from layerscope.hooks.listening import watch as watching
from layerscope.hooks.places import Difference, Tap
from layerscope.planted import families

PADDED = [
    *("gpt2", "llama", "qwen3", "mistral", "mixtral", "gemma2", "gemma3", "olmo2", "gpt_neox"),
    *("gptj", "falcon", "phi", "cohere", "opt", "bloom", "mpt"),
]
LENGTHS = (5, 9, 2)


def padded(texts: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Ids and mask of a ragged batch."""
    most = max(map(len, texts))
    rows, masks = [], []
    for text in texts:
        pads = torch.zeros(most - len(text), dtype=torch.long)
        ones = torch.ones_like(text)
        rows.append(torch.cat([pads, text] if side == "left" else [text, pads]))
        masks.append(torch.cat([pads, ones] if side == "left" else [ones, pads]))
    return torch.stack(rows), torch.stack(masks)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", PADDED)
def test_a_ragged_batch_holds_what_single_runs_hold(name: str, side: str) -> None:
    model = families.build(name)
    texts = [torch.arange(3, 3 + n) * (n + 1) % 50 + 3 for n in LENGTHS]
    ids, mask = padded(texts, side)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if "position_ids" in inspect.signature(model.forward).parameters:
        inputs["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)
    sites = [site for site in anatomy(model).sites if site != "logits"]
    with torch.no_grad(), capture(model, sites) as batch:
        model(**inputs)
    for row, text in enumerate(texts):
        with torch.no_grad(), capture(model, sites) as alone:
            model(input_ids=text[None])
        real = mask[row].bool()
        for site in sites:
            got, want = batch[site][row], alone[site][0]
            if site.endswith((".q", ".k", ".v")):
                got = got[:, real]
            elif site.endswith(".pattern"):
                got = got[:, real][:, :, real]
            else:
                got = got[real]
            torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-4, msg=lambda m, s=site: s + m)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt_neox", "olmo2", "bert", "t5"])
def test_resid_post_is_hidden_states_but_for_the_last(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    with torch.no_grad(), capture(model, ["blocks.*.resid_post", "embed"]) as seen:
        out = model(**inputs, output_hidden_states=True)
    states = out.decoder_hidden_states if name == "t5" else out.hidden_states
    torch.testing.assert_close(seen["embed"], states[0], atol=0, rtol=0)
    for layer, state in enumerate(states[1:-1]):
        torch.testing.assert_close(seen[layer], state, atol=0, rtol=0)
    if name != "bert":  # has no final norm, so its last entry is the last block's output
        assert not torch.allclose(seen[-1], states[-1])


@pytest.mark.parametrize("name", families.names())
def test_every_site_of_every_family_is_captured_and_adds_up(name: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    sites = anatomy(model).sites or dict.fromkeys(n for n, _ in model.named_children())
    args, kwargs = (inputs, {}) if isinstance(inputs, tuple) else ((), inputs)
    with torch.no_grad():
        plain = model(*args, **kwargs)
        with capture(model, list(sites)) as seen:
            watched = model(*args, **kwargs)
    assert set(seen) == set(sites)
    first = plain if isinstance(plain, Tensor) else plain[0]
    torch.testing.assert_close(watched if isinstance(watched, Tensor) else watched[0], first)
    for site, place in sites.items():
        if isinstance(place, Difference):
            parts = (
                sum(seen[before] for before in place.before)
                if set(place.before) <= set(seen)
                else 0
            )
            torch.testing.assert_close(seen[site] + parts, seen[place.after])


def test_falcon_adds_in_place_and_the_copy_does_not_move() -> None:
    model, inputs = families.build("falcon"), families.batch("falcon")
    live: dict[str, Tensor] = {}
    copies: dict[str, Tensor] = {}

    def keep(site: str, x: Tensor) -> None:
        live[site], copies[site] = x, x.clone()

    with torch.no_grad(), watch(model, "transformer.h.0.mlp", keep):
        model(**inputs)
    assert not torch.equal(live["transformer.h.0.mlp"], copies["transformer.h.0.mlp"])
    sites = ["blocks.0.attn_out", "blocks.0.mlp_out", "blocks.0.resid_pre", "blocks.0.resid_post"]
    with torch.no_grad(), capture(model, [*sites, "transformer.h.0.mlp"]) as seen:
        model(**inputs)
    torch.testing.assert_close(seen["transformer.h.0.mlp"], copies["transformer.h.0.mlp"])
    attn, mlp, before, after = (seen[site] for site in sites)
    torch.testing.assert_close(before + attn + mlp, after)
    torch.testing.assert_close(mlp, copies["transformer.h.0.mlp"])


class Overwrites(nn.Module):
    """Changes its first layer's output in place before the second one returns."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.second(y.mul_(3))  # type: ignore[no-any-return]


def test_a_difference_is_taken_before_its_terms_are_overwritten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = {"first": Tap("first"), "second": Tap("second")}
    monkeypatch.setattr(watching, "place_of", lambda model, site: table[site])
    model, x, got = Overwrites(), torch.ones(2, 4), []
    wanted = {"change": Difference("second", ("first",))}
    listener = watching.Listener(model, wanted, lambda site, tensor, _: got.append(tensor.clone()))
    with torch.no_grad(), listener.listening():
        model(x)
    first = model.first(x)
    torch.testing.assert_close(got[0], model.second(3 * first) - first)


class Adds(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


def test_inputs_are_read_by_position_and_by_keyword() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add = Adds()

        def forward(self, x: Tensor) -> Tensor:
            return self.add(left=x, right=2 * x)

    model, x = Two(), torch.arange(3.0)
    with capture(model, ["add:in", "add", ":in"]) as seen:
        model(x)
    torch.testing.assert_close(seen["add:in"], x)
    torch.testing.assert_close(seen[":in"], x)
    torch.testing.assert_close(seen["add"], 3 * x)


def test_a_named_input_is_found_however_it_is_passed() -> None:
    model, x = Adds(), torch.arange(3.0)
    places = {"first": Tap("", "in", 0), "second": Tap("", "in", "right")}
    for args, kwargs in (
        ((x, 2 * x), {}),
        ((x,), {"right": 2 * x}),
        ((), {"right": 2 * x, "left": x}),
    ):
        got: dict[str, Tensor] = {}
        listener = watching.Listener(model, places, lambda s, t, _, got=got: got.update({s: t}))
        with listener.listening():
            model(*args, **kwargs)
        torch.testing.assert_close(got["first"], x)
        torch.testing.assert_close(got["second"], 2 * x)


def test_a_tuple_output_gives_its_first_tensor() -> None:
    model, inputs = families.build("lstm"), families.batch("lstm")
    with torch.no_grad(), capture(model, "rnn") as seen:
        model(*inputs)
    torch.testing.assert_close(seen["rnn"], model.rnn(*inputs)[0])


def test_shared_blocks_are_told_apart_by_their_call() -> None:
    model, inputs = families.build("albert"), families.batch("albert")
    with torch.no_grad(), capture(model, "all") as seen:
        for _ in range(2):  # the count starts again with each pass
            states = model(**inputs, output_hidden_states=True).hidden_states
    assert len(seen) == 3
    for layer in range(3):
        assert len(seen.passes(layer)) == 2
        for tensor in seen.passes(layer):
            torch.testing.assert_close(tensor, states[layer + 1], atol=0, rtol=0)


def test_calling_an_inner_module_is_a_pass_of_its_own() -> None:
    model, inputs = families.build("albert"), families.batch("albert")
    with torch.no_grad(), capture(model, "all") as seen:
        model.albert(**inputs)
        model.albert(**inputs)
    assert [len(seen.passes(layer)) for layer in range(3)] == [2, 2, 2]
    torch.testing.assert_close(seen.passes(2)[0], seen.passes(2)[1])


def test_a_module_path_that_runs_often_says_so() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), capture(model, ["0", "2"]) as seen:
        model(x)
    torch.testing.assert_close(seen["0"], shared(x))
    assert any("runs more than once" in note for note in seen.notes)


def test_stop_leaves_the_pass_after_the_last_wanted_block() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    anatomy(model)
    ran: list[int] = []
    handles = [
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, layer in enumerate(model.model.layers)
    ]
    with torch.no_grad():
        with capture(model, [0, "blocks.1.q"], stop=True) as seen:
            model(**inputs)
            pytest.fail("the rest of the block is skipped")
        assert ran == [0]  # block 1 was entered, and left at its q
        with capture(model, [0, "blocks.1.q"]) as whole:
            model(**inputs)
    for handle in handles:
        handle.remove()
    for site in whole:
        torch.testing.assert_close(seen[site], whole[site], atol=0, rtol=0)


def test_stop_counts_shared_blocks() -> None:
    model, inputs = families.build("albert"), families.batch("albert")
    anatomy(model)
    layer = model.albert.encoder.albert_layer_groups[0]
    calls: list[int] = []
    handle = layer.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad(), capture(model, 1, stop=True):
        model(**inputs)
    handle.remove()
    assert len(calls) == 1  # the second call was left from inside


def test_the_capture_prints_what_it_holds() -> None:
    model, inputs = families.build("gpt2"), families.batch("gpt2")
    with torch.no_grad(), capture(model, [0, "blocks.1.pattern"]) as seen:
        assert "not reached" in repr(seen)
        model(**inputs)
    assert repr(seen) == (
        "Capture of GPT2LMHeadModel: 2 of 2 sites\n"
        "  blocks.0.resid_post  [2, 9, 32]  float32\n"
        "  blocks.1.pattern     [2, 4, 9, 9]  float32"
    )
    assert 0 in seen
    assert 1 not in seen
    assert seen[0] is seen["blocks.0.resid_post"]


def test_keeping_the_tensors_does_not_keep_the_model() -> None:
    import gc
    import weakref

    model = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad(), capture(model, "0") as seen:
        model(torch.ones(1, 2))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert seen["0"].shape == (1, 2)


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("name", ["llama", "falcon", "bloom"])
def test_memory_is_free_at_once_without_the_garbage_collector(name: str, stop: bool) -> None:
    import gc
    import weakref

    model, inputs = families.build(name), families.batch(name)
    anatomy(model)
    gone: list[weakref.ref[Tensor]] = []
    handles = [
        module.register_forward_hook(
            lambda m, a, out: gone.append(weakref.ref(out)) if isinstance(out, Tensor) else None
        )
        for module in model.modules()
    ]
    gc.collect()
    gc.disable()
    try:
        sites = ["all", "blocks.0.q", "blocks.0.pattern", "blocks.0.attn_out"]
        with torch.no_grad(), capture(model, sites, stop=stop) as seen:
            model(**inputs)
        gone.append(weakref.ref(seen[0]))
        del seen
        assert len(gone) > 10
        assert [ref for ref in gone if ref() is not None] == []
    finally:
        gc.enable()
        for handle in handles:
            handle.remove()
