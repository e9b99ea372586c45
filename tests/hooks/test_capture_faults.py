"""Whatever goes wrong inside the block, the model is as it was; and the error says what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import StopForward, capture, watch
from layerscope.planted import families

SITES = ["all", "blocks.0.q", "blocks.1.pattern", "blocks.0.mlp_out", "logits"]


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """The block leaves no hook, mode, flag, registration or generator state behind."""
    from transformers.modeling_utils import AttentionInterface

    def state() -> tuple[object, ...]:
        hooks = [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), m.training)
            for m in model.modules()
        ]
        mode = _get_current_function_mode_stack()
        config = getattr(getattr(model, "config", None), "_attn_implementation", None)
        flags = [(p.requires_grad, p.grad is None) for p in model.parameters()]
        return (
            hooks,
            mode,
            config,
            flags,
            AttentionInterface.get_interface,
            "forward" in vars(model),
        )

    before, rng = state(), torch.get_rng_state()
    yield
    assert state() == before
    assert torch.equal(torch.get_rng_state(), rng)


@pytest.mark.parametrize("name", ["llama", "falcon", "bloom"])
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("way", ["success", "user", "model", "stop", "interrupt"])
def test_nothing_is_left_behind(name: str, train: bool, way: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    sites = SITES if name == "llama" else [s for s in SITES if s != "blocks.0.mlp_out"]
    anatomy(model)
    model.train(train)
    if name == "llama" and train:
        model.model.layers[1].eval()  # a mixed state must stay mixed

    def fail(*_: object) -> None:
        raise (KeyboardInterrupt if way == "interrupt" else ZeroDivisionError)("planted")

    handle = None
    if way in ("model", "interrupt"):
        inside = next(m for n, m in model.named_modules() if n.endswith(("o_proj", "dense")))
        handle = inside.register_forward_hook(fail)
    expected: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if way in ("user", "model"):
        expected = pytest.raises(ZeroDivisionError, match="planted")
    elif way == "interrupt":
        expected = pytest.raises(KeyboardInterrupt, match="planted")
    listening = capture(model, sites, stop=way == "stop")
    with untouched(model), expected, torch.no_grad(), listening:
        model(**inputs)
        if way == "user":
            fail()
    if handle is not None:
        handle.remove()


def test_a_see_that_raises_comes_out_unchanged() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    anatomy(model)

    def see(site: str, tensor: Tensor) -> None:
        raise ZeroDivisionError(site)

    for site in ("blocks.1.resid_post", "blocks.1.pattern", "blocks.1.z"):
        expected = pytest.raises(ZeroDivisionError, match=site)
        with untouched(model), expected, torch.no_grad(), watch(model, site, see):
            model(**inputs)


def test_half_registered_hooks_are_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.build("llama")
    anatomy(model)

    def refuse(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    with untouched(model):
        monkeypatch.setattr(type(model.model.norm), "register_forward_hook", refuse)
        with pytest.raises(ZeroDivisionError, match="planted"), capture(model, ["all", "norm"]):
            pass
        monkeypatch.undo()


def test_unknown_sites_are_refused_before_anything_is_attached() -> None:
    model = families.build("llama")
    with (
        untouched(model),
        pytest.raises(LookupError, match=r"blocks\.0\.resid_pots"),
        capture(model, ["all", "blocks.0.resid_pots"]),
    ):
        pass


def test_a_block_in_which_nothing_ran() -> None:
    model = families.build("llama")
    with (
        pytest.raises(
            LookupError, match=r"model.layers.0: the model was not called inside the with"
        ),
        capture(model, 0),
    ):
        pass


class Routed(nn.Module):
    """Two experts, of which inputs decide."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])

    def forward(self, x: Tensor) -> Tensor:
        return self.experts[int(x.sum() > 0)](x)  # type: ignore[no-any-return]


def test_a_module_that_did_not_run_is_named_with_what_did() -> None:
    model = Routed()
    with (
        pytest.raises(
            LookupError, match=r"the model ran 1x, experts.0 ran 0x\). Reached: experts.1"
        ),
        capture(model, ["experts.0", "experts.1"]) as seen,
    ):
        model(torch.ones(1, 2))
    assert list(seen) == ["experts.1"]


def test_a_container_that_is_never_called() -> None:
    model = Routed()
    with pytest.raises(LookupError, match="experts ran 0x"), capture(model, "experts"):
        model(torch.ones(1, 2))


def test_an_error_of_the_body_is_not_hidden_by_a_missing_site() -> None:
    model = families.build("llama")
    with pytest.raises(ZeroDivisionError, match="planted"), capture(model, 0):
        raise ZeroDivisionError("planted")


def test_a_module_under_two_paths() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model.add_module("again", model[1])
    x = torch.ones(1, 2)
    with torch.no_grad(), capture(model, ["1", "again"]) as seen:
        model(x)
    torch.testing.assert_close(seen["1"], model[1](model[0](x)))
    assert any("runs more than once" in note for note in seen.notes)


def test_nested_captures_and_their_stops() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    anatomy(model)
    with untouched(model), torch.no_grad():
        few, more = [2, "blocks.2.z"], [0, "blocks.0.pattern", "blocks.2.z"]
        with capture(model, few) as outer, capture(model, more) as inner:
            model(**inputs)
        torch.testing.assert_close(inner["blocks.2.z"], outer["blocks.2.z"])
        expected = pytest.raises(LookupError, match=r"'blocks\.2\.resid_post'")
        with expected, capture(model, 2), capture(model, 0, stop=True):
            model(**inputs)
        with capture(model, 0, stop=True) as outer, capture(model, 2) as inner:
            model(**inputs)  # the outer one stops, which is no fault of the inner one
        assert 0 in outer
        assert len(inner) == 0


def test_watch_lets_the_stop_out() -> None:
    model, inputs = families.build("gpt2"), families.batch("gpt2")
    seen: list[str] = []
    with torch.no_grad(), watch(model, [1, 0], lambda site, x: seen.append(site), stop=True):
        for _ in range(2):
            with pytest.raises(StopForward, match="every wanted site"):
                model(**inputs)
    assert seen == ["blocks.0.resid_post", "blocks.1.resid_post"] * 2


def test_after_an_interrupted_pass_the_next_one_counts_from_zero() -> None:
    model, inputs = families.build("albert"), families.batch("albert")
    anatomy(model)
    layer = model.albert.encoder.albert_layer_groups[0]
    with torch.no_grad(), capture(model, "all") as whole:
        model(**inputs)
    for error in (KeyboardInterrupt, ZeroDivisionError):

        def fail(*_: object, error: type[BaseException] = error) -> None:
            raise error("planted")

        with torch.no_grad(), capture(model, "all") as seen:
            handle = layer.register_forward_hook(fail)
            with pytest.raises(error, match="planted"):
                model(**inputs)
            handle.remove()
            model(**inputs)
        for number in range(3):
            torch.testing.assert_close(seen.passes(number)[-1], whole[number], atol=0, rtol=0)


def test_asking_for_what_was_not_captured() -> None:
    model, inputs = families.build("gpt2"), families.batch("gpt2")
    with torch.no_grad(), capture(model, 0) as seen:
        with pytest.raises(
            LookupError, match=r"no forward pass has reached 'blocks\.0\.resid_post' yet"
        ):
            seen[0]
        model(**inputs)
    with pytest.raises(
        LookupError, match=r"'blocks.0.resid_pos' was not asked for; closest: blocks.0"
    ):
        seen["blocks.0.resid_pos"]
    with pytest.raises(LookupError, match="1 was not asked for"):
        seen[1]
    with pytest.raises(LookupError, match=r"no gradient of 'blocks\.0\.resid_post'"):
        seen.grads[0]
