"""Site names: what each way of asking stands for, and what an unknown one is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from layerscope.hooks import anatomy as anatomy_module
from layerscope.hooks.places import Difference, Tap, module_at, pick, pick_input
from layerscope.hooks.replay import record
from layerscope.hooks.sites import layer_of, place_of, resolve
from layerscope.planted.families import build


@pytest.fixture(scope="module")
def gpt2() -> nn.Module:
    return build("gpt2")


@pytest.mark.parametrize(
    ("asked", "sites"),
    [
        (1, ["blocks.1.resid_post"]),
        (-1, ["blocks.2.resid_post"]),
        ("all", [f"blocks.{i}.resid_post" for i in range(3)]),
        ("embed", ["embed"]),
        ("logits", ["logits"]),
        ("blocks.*.mlp_out", [f"blocks.{i}.mlp_out" for i in range(3)]),
        ("blocks.-1.mlp_out", ["blocks.2.mlp_out"]),
        ("blocks.[12].q", ["blocks.1.q", "blocks.2.q"]),
        ("blocks.0.resid_*", [f"blocks.0.resid_{p}" for p in ("pre", "mid", "post")]),
        ("transformer.h.1.mlp", ["transformer.h.1.mlp"]),
        ("transformer.h.1.mlp:in", ["transformer.h.1.mlp:in"]),
        ("transformer.h.*.ln_1", [f"transformer.h.{i}.ln_1" for i in range(3)]),
        ([2, 0, -1], ["blocks.0.resid_post", "blocks.2.resid_post"]),
        (["logits", 0, "embed"], ["embed", "blocks.0.resid_post", "logits"]),
        (["lm_head", "norm"], ["norm", "lm_head"]),
    ],
)
def test_what_is_asked_becomes_canonical_sites(gpt2: nn.Module, asked: Any, sites: Any) -> None:
    assert resolve(gpt2, asked) == tuple(sites)


def test_resolving_what_was_resolved_changes_nothing(gpt2: nn.Module) -> None:
    once = resolve(gpt2, ["all", "blocks.*.attn_out", "transformer.h.0:in", "norm"])
    assert resolve(gpt2, once) == once


def test_encoder_sites(gpt2: nn.Module) -> None:
    t5 = build("t5")
    assert resolve(t5, "encoder.blocks.-1.mlp_out") == ("encoder.blocks.1.mlp_out",)
    assert resolve(t5, "all") == tuple(f"blocks.{i}.resid_post" for i in range(3))
    assert layer_of("encoder.blocks.1.mlp_out") == 1


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        (3, IndexError, r"layer 3 asked; GPT2LMHeadModel has 3 blocks: 0 to 2, or -3 to -1"),
        (-4, IndexError, r"layer -4 asked"),
        ("blocks.-9.q", IndexError, r"layer 'blocks\.-9\.q' asked"),
        ("blocks.1.mlpout", LookupError, r"'blocks\.1\.mlpout'.*closest: 'blocks\.1\.mlp_out'"),
        ("transformer.h.1.mpl", LookupError, r"closest: 'transformer\.h\.1\.mlp'"),
        ("transformer.h.1:out", LookupError, r"no site or module 'transformer\.h\.1:out'"),
        ("h.*", LookupError, r"no site or module 'h\.\*'"),
        (True, TypeError, r"an int or a string, got bool True"),
        ([1.5], TypeError, r"an int or a string, got float 1\.5"),
        ([], ValueError, r"no layers asked for"),
    ],
)
def test_what_does_not_exist_is_told_what_does(
    gpt2: nn.Module, asked: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        resolve(gpt2, asked)


def test_the_name_of_a_model_is_no_model() -> None:
    name: Any = "path/to/model"
    with pytest.raises(TypeError, match=r"a torch module, got str; load_model\(name\) makes one"):
        resolve(name, "0")
    with pytest.raises(TypeError, match=r"a torch module, got str; load_model\(name\) makes one"):
        record(name, {"input_ids": torch.ones(1, 2, dtype=torch.long)})


def test_a_module_path_never_runs_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("gpt2")

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the model was run")

    monkeypatch.setattr(model, "forward", refuse)
    assert resolve(model, ["transformer.h.*", "lm_head:in"])[-1] == "lm_head:in"
    assert place_of(model, "lm_head:in") == Tap("lm_head", "in")
    assert model not in anatomy_module._known


def test_places(gpt2: nn.Module) -> None:
    assert place_of(gpt2, "blocks.1.resid_post") == Tap("transformer.h.1")
    assert place_of(gpt2, "transformer.h.1") == Tap("transformer.h.1")
    difference = place_of(build("bert"), "blocks.1.attn_out")
    assert difference == Difference("blocks.1.resid_mid", ("blocks.1.resid_pre",))
    with pytest.raises(LookupError, match=r"closest: 'blocks\.0\.mlp_out'"):
        place_of(gpt2, "blocks.0.mlp_ou")


def test_a_module_named_like_a_site_is_still_reachable() -> None:
    lstm = nn.ModuleDict({"norm": nn.LayerNorm(4), "rnn": nn.LSTM(4, 4)})
    assert resolve(lstm, "norm") == ("norm",)
    assert place_of(lstm, "norm") == Tap("norm")


def test_no_blocks_is_an_error_that_names_modules() -> None:
    with pytest.raises(LookupError, match=r"no stack of blocks was found in Tagger.*'rnn'"):
        resolve(build("lstm"), "all")


@pytest.mark.parametrize(
    ("site", "layer"),
    [
        ("embed", -1),
        ("encoder.embed", -1),
        ("blocks.12.mlp_act", 12),
        ("norm", None),
        ("logits", None),
        ("transformer.h.3", None),
    ],
)
def test_layer_of(site: str, layer: int | None) -> None:
    assert layer_of(site) == layer


def test_pick_takes_the_item_or_the_first_tensor() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    assert pick(a) is a
    assert pick((None, a, b)) is a
    assert pick((a, b), 1) is b
    assert pick({"x": b, "y": a}, "y") is a
    assert pick(((a, b), None)) is a
    assert pick_input((None, a), {"k": b}) is a
    assert pick_input((), {"k": b}, "k") is b
    with pytest.raises(
        TypeError, match=r"no tensor at item 'z' of this dict; it holds 'x': Tensor"
    ):
        pick({"x": a}, "z")
    with pytest.raises(TypeError, match=r"no tensor at item None of this tuple; it holds nothing"):
        pick(())


def test_module_at(gpt2: nn.Module) -> None:
    assert module_at(gpt2, "") is gpt2
    assert isinstance(module_at(gpt2, "transformer.ln_f"), nn.LayerNorm)
    with pytest.raises(LookupError, match=r"no module at 'transformer\.lnf'.*'transformer\.ln_f'"):
        module_at(gpt2, "transformer.lnf")


def test_places_read_well() -> None:
    assert str(Tap("a.b", "in", 1, 2)) == "a.b:in[1] call 2"
    assert str(Difference("x", ("y", "z"))) == "x - y - z"
