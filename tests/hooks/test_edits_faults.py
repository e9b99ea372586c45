"""Whatever goes wrong inside an edit, the model is as it was; and the error says what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from layerscope.hooks import edits
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import capture
from layerscope.hooks.edits import active, edit
from layerscope.hooks.extract import extract
from layerscope.hooks.listening import passes
from layerscope.planted import families

CHANGES = {
    0: edits.scale(0.5, at=1),
    "blocks.1.resid_mid": edits.scale(0.5),
    "blocks.1.mlp_out": edits.skip(),
    "blocks.2.resid_post": edits.skip(at=2),
    "blocks.0.q": edits.zero(at=1),
    "blocks.1.pattern": [edits.cut([3], [1]), edits.scale(2.0, at=4)],
    "blocks.1.z": edits.zero(heads=1),
    "logits": edits.scale(2.0),
}


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """The block leaves no hook, mode, flag, registration or generator state behind."""
    from transformers.modeling_utils import AttentionInterface

    def state() -> tuple[object, ...]:
        hooks = [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), m.training)
            for m in model.modules()
        ]
        config = getattr(getattr(model, "config", None), "_attn_implementation", None)
        flags = [(p.requires_grad, p.grad is None) for p in model.parameters()]
        return (
            hooks,
            _get_current_function_mode_stack(),
            config,
            flags,
            AttentionInterface.get_interface,
            active(model),
            "forward" in vars(model),
        )

    weights = [p.clone() for p in model.parameters()]
    before, rng = state(), torch.get_rng_state()
    yield
    assert state() == before
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["llama", "falcon", "bloom"])
@pytest.mark.parametrize("way", ["success", "user", "model", "change", "unreached", "interrupt"])
def test_nothing_is_left_behind(name: str, way: str) -> None:
    model, inputs = families.build(name), families.batch(name)
    known = anatomy(model).sites
    changes: dict[Any, Any] = {s: c for s, c in CHANGES.items() if s == 0 or s in known}
    if name == "bloom":
        del changes["blocks.0.q"]
    with torch.no_grad():
        plain = model(**inputs).logits

    def fail(*_: object) -> Tensor:
        raise (KeyboardInterrupt if way == "interrupt" else ZeroDivisionError)("planted")

    handle = None
    if way in ("model", "interrupt"):
        inside = next(m for n, m in model.named_modules() if n.endswith(("o_proj", "dense")))
        handle = inside.register_forward_hook(fail)
    if way == "change":
        changes["blocks.1.v"] = fail
    if way == "unreached":
        changes[1] = edits.zero(at=30)
    expected: Any = {
        "success": contextlib.nullcontext(),
        "unreached": pytest.raises(IndexError, match=r"zero \(at=30\)"),
        "interrupt": pytest.raises(KeyboardInterrupt, match="planted"),
    }.get(way, pytest.raises(ZeroDivisionError, match="planted"))
    with untouched(model), expected, torch.no_grad(), edit(model, changes), capture(model, "all"):
        model(**inputs)
        if way == "user":
            fail()
    if handle is not None:
        handle.remove()
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, plain)


def test_half_registered_hooks_are_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.build("llama")
    anatomy(model)

    def refuse(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    with untouched(model):
        monkeypatch.setattr(type(model.model.norm), "register_forward_hook", refuse)
        with pytest.raises(ZeroDivisionError, match="planted"), edit(model, {"norm": edits.zero()}):
            pass
        monkeypatch.undo()


def test_after_an_interrupted_pass_the_next_one_is_edited_as_usual() -> None:
    model, inputs = families.build("albert"), families.batch("albert")
    layer: Any = model.albert.encoder.albert_layer_groups[0]
    change = {1: edits.zero(at=2), "blocks.2.z": edits.zero(heads=1)}
    with torch.no_grad(), edit(model, change):
        want = model(**inputs).logits
    for error in (KeyboardInterrupt, ZeroDivisionError):

        def fail(*_: object, error: type[BaseException] = error) -> None:
            raise error("planted")

        with torch.no_grad(), edit(model, change):
            handle = layer.register_forward_hook(fail)
            with pytest.raises(error, match="planted"):
                model(**inputs)
            handle.remove()
            assert torch.equal(model(**inputs).logits, want)


REFUSED: list[tuple[dict[Any, Any], type[Exception], str]] = [
    ({}, ValueError, "nothing to change"),
    ({0: []}, ValueError, "nothing to change"),
    ({"blocks.0.resid_pots": edits.zero()}, LookupError, r"closest: .*blocks\.0\.resid_post"),
    ({7: edits.zero()}, IndexError, "layer 7 asked; LlamaForCausalLM has 3 blocks"),
    ({0: torch.zeros(32)}, TypeError, r"such as set_to\(tensor\).* got Tensor"),
    ({0: 3.0}, TypeError, r"such as edits\.zero\(\).* got float"),
    ({0: edits.cut([1], [0])}, ValueError, r"cut goes to a pattern, such as 'blocks\.0\.pattern'"),
    (
        {"blocks.1.resid_mid": edits.skip()},
        ValueError,
        "skip goes to resid_post .*'blocks.1.resid_mid'",
    ),
    ({"blocks.1.z": edits.skip()}, ValueError, "skip goes to resid_post"),
]


@pytest.mark.parametrize(("changes", "error", "match"), REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_attached(
    changes: dict[Any, Any], error: type[Exception], match: str
) -> None:
    model = families.build("llama")
    anatomy(model)
    with untouched(model), pytest.raises(error, match=match), edit(model, changes):
        pass


AT_THE_SITE: list[tuple[dict[Any, Any], type[Exception], str]] = [
    (
        {1: edits.add(torch.ones(31))},
        ValueError,
        (
            r"add at 'blocks\.1\.resid_post': values of shape \[31\] do not fit \[2, 9, 32\] \(rows 2, "
            r"positions 9, width 32\)"
        ),
    ),
    ({1: edits.set_to(torch.ones(3, 1, 32))}, ValueError, r"\[3, 1, 32\] do not fit \[2, 9, 32\]"),
    ({1: edits.set_to(torch.ones(2, 5, 32))}, ValueError, r"5 positions given .* the pass has 9"),
    ({1: edits.project_out(torch.ones(2, 8))}, ValueError, r"\[2, 8\] do not fit \[2, 9, 32\]"),
    ({1: lambda x: x[0]}, ValueError, r"returned shape \[9, 32\] for \[2, 9, 32\]"),
    ({1: lambda x: None}, ValueError, r"returned NoneType, not a tensor of shape \[2, 9, 32\]"),
    (
        {1: edits.scale(float("nan"))},
        ValueError,
        r"scale\(nan\) at 'blocks\.1\.resid_post' gives nan",
    ),
    ({1: lambda x: x / 0}, ValueError, r"gives -?inf at index \[0, 0, 0\] of \[2, 9, 32\]"),
    ({"logits": lambda x: x * float("nan")}, ValueError, "at 'logits' gives nan"),
    (
        {"embed": [edits.zero(), edits.add(torch.zeros(32), keep_norm=True)]},
        ValueError,
        "add at 'embed' gives nan",
    ),
    ({1: edits.zero(at=-10)}, IndexError, "position -10 of .*the prompt has 9 positions, -9 to 8"),
    ({1: edits.zero(at=9)}, IndexError, r"zero \(at=9\) at .* the passes had positions 0 to 8"),
    ({1: edits.zero(at=[9, 12])}, IndexError, r"at=\[9, 12\].*positions 0 to 8"),
    ({1: edits.zero(at=slice(12, None))}, IndexError, "the passes had positions 0 to 8"),
    ({"blocks.1.pattern": edits.cut([3], [9])}, IndexError, r"cut \(queries=\[3\], keys=\[9\]\)"),
    ({1: edits.zero(rows=2)}, IndexError, "row 2 of 'blocks.1.resid_post': the batch has 2 rows"),
    ({1: edits.zero(rows=[0, -3])}, IndexError, "row -3 of"),
    ({1: edits.zero(heads=1)}, ValueError, "which has no heads; q, k, v, z and pattern have"),
    (
        {"blocks.1.z": edits.zero(heads=4)},
        IndexError,
        "head 4 of 'blocks.1.z': the site has 4 heads",
    ),
    (
        {"blocks.1.k": edits.zero(heads=2)},
        IndexError,
        "head 2 of 'blocks.1.k': the site has 2 heads",
    ),
    ({1: edits.zero(at=torch.zeros(3, 1).long())}, ValueError, "positions for 3 rows, but 2 rows"),
    (
        {1: edits.swap({"embed": torch.ones(2, 9, 32)})},
        LookupError,
        "does not have it; it has 'embed'",
    ),
    (
        {1: edits.swap({"blocks.1.resid_post": torch.ones(2, 5, 32)}, at=7)},
        ValueError,
        r"the other run has \[2, 5, 32\], this one \[2, 9, 32\]",
    ),
    ({1: edits.swap({"blocks.1.resid_post": torch.ones(3, 9, 32)})}, ValueError, r"\[3, 9, 32\]"),
    ({1: edits.resample(torch.ones(4, 31))}, ValueError, r"\[4, 31\] do not fit \[2, 9, 32\]"),
]


@pytest.mark.parametrize(("changes", "error", "match"), AT_THE_SITE)
def test_what_does_not_fit_is_refused_with_site_and_shapes(
    changes: dict[Any, Any], error: type[Exception], match: str
) -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    anatomy(model)
    with (
        untouched(model),
        pytest.raises(error, match=match),
        torch.no_grad(),
        edit(model, changes),
    ):
        model(**inputs)


def test_slips_are_told_with_the_next_step() -> None:
    model = families.build("llama")
    for given, says in (
        ((model, [1]), "as a mapping such as .* got list"),
        (({0: edits.zero()}, model), "takes a torch module, got dict; the model comes first"),
        ((model, {1: edits.zero}), r"call it: edits\.zero\(\)"),
        ((model, {1: [edits.add]}), r"call it: edits\.add\(\.\.\.\)"),
        ((model, {1: lambda x, hook: x}), r"\(x, hook\) cannot be called with .* of one argument"),
        ((model, {1: lambda: None}), r"\(\) cannot be called with the site's tensor alone"),
    ):
        with pytest.raises(TypeError, match=says), edit(*given):  # type: ignore[arg-type]
            pass
    for function in (torch.relu, torch.nn.ReLU(), lambda x, scale=2: x * scale, lambda *x: x[0]):
        assert edits.as_changes(function)[0].name.startswith("change(")


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(TypeError, match=r"holds torch.bool.* mask\.nonzero"):
        edits.zero(at=torch.ones(9).bool())
    with pytest.raises(TypeError, match=r"at='last': give an int"):
        edits.zero(at="last")
    with pytest.raises(ValueError, match=r"at has shape \[1, 1, 1\]"):
        edits.zero(at=torch.zeros(1, 1, 1).long())
    with pytest.raises(ValueError, match=r"rows has shape \[2, 2\]: give one axis"):
        edits.zero(rows=torch.zeros(2, 2).long())
    with pytest.raises(ValueError, match="a direction is zero"):
        edits.project_out(torch.zeros(8))
    with pytest.raises(ValueError, match=r"project_out takes \[d\] or \[k, d\]"):
        edits.project_out(torch.ones(1, 2, 8))
    with pytest.raises(ValueError, match="would leave no edge at all"):
        edits.cut()
    with pytest.raises(ValueError, match=r"from a pool of shape \[8\]"):
        edits.resample(torch.ones(8))
    with pytest.raises(TypeError, match="swap takes a mapping of sites to tensors, got Tensor"):
        edits.swap(torch.ones(8))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"set_to\(\) takes a tensor, got str"):
        edits.set_to("zero")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"change\(\) takes a function, got int"):
        edits.change(3)  # type: ignore[arg-type]


def test_one_row_has_no_other_to_take_from() -> None:
    x = torch.ones(1, 4, 8)
    with pytest.raises(ValueError, match=r"the batch has one row.* give a pool"):
        edits.resample().applied(x, "embed")
    split = edits.resample().on(torch.tensor([0, -1]))
    with pytest.raises(ValueError, match="they are run in several parts"):
        split.applied(x, "embed")
    with pytest.raises(IndexError, match="row 4 of 'embed': the batch has 1 rows"):
        edits.zero().on(torch.tensor([4])).applied(x, "embed")
    with pytest.raises(ValueError, match="not known what entered there"):
        edits.skip().applied(x, "blocks.0.resid_post")
    with pytest.raises(ValueError, match="made before the softmax"):
        edits.cut(keys=[0]).applied(torch.ones(1, 2, 4, 4), "blocks.0.pattern")


def test_positions_of_a_site_that_has_none() -> None:
    model, inputs = families.build("vit"), families.batch("vit")
    expected = pytest.raises(
        ValueError, match=r"at=0 at 'logits', which has no positions.*\[2, 5\]"
    )
    with expected, edit(model, {"logits": edits.zero(at=0)}):
        model(**inputs)
    cnn, image = families.build("cnn"), families.batch("cnn")
    expected = pytest.raises(
        ValueError, match=r"\[2, 8, 16, 16\] enters and \[2, 16, 8, 8\] leaves"
    )
    with expected, edit(cnn, {"stage2": edits.skip()}):
        cnn(*image)
    with (
        torch.no_grad(),
        edit(cnn, {"stage1": edits.skip()}),
        capture(cnn, ["stem", "stage1"]) as s,
    ):
        cnn(*image)
    assert torch.equal(s["stem"], s["stage1"])


def test_a_block_in_which_nothing_ran() -> None:
    model = families.build("llama")
    expected = pytest.raises(LookupError, match=r"the model was not called inside the with block")
    with expected, edit(model, {0: edits.zero()}):
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
    expected = pytest.raises(LookupError, match=r"experts.0 ran 0x\). Reached: experts.1")
    with expected, edit(model, {"experts.0": edits.zero(), "experts.1": edits.zero()}):
        model(torch.ones(1, 2))


def test_an_error_of_the_body_is_not_hidden_by_a_missing_site() -> None:
    model = families.build("llama")
    with pytest.raises(ZeroDivisionError, match="planted"), edit(model, {0: edits.zero()}):
        raise ZeroDivisionError("planted")


def test_gradient_checkpointing_is_refused() -> None:
    model, inputs = families.build("llama").train(), families.batch("llama")
    model.gradient_checkpointing_enable()
    for site in (0, "blocks.1.z"):
        expected = pytest.raises(ValueError, match="gradient_checkpointing_disable")
        with expected, edit(model, {site: edits.zero()}):
            model(**inputs)
    with torch.no_grad(), edit(model, {0: edits.zero()}):
        model(**inputs)

    class Recomputed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            from torch.utils.checkpoint import checkpoint

            return checkpoint(self.inner, x, use_reentrant=False)  # type: ignore[no-any-return]

    own = Recomputed()
    expected = pytest.raises(ValueError, match="gradient checkpointing")
    with expected, edit(own, {"inner": edits.scale(2.0)}):
        own(torch.ones(1, 2)).sum().backward()


def test_another_model_is_let_alone() -> None:
    model, other = families.build("llama"), families.build("llama", seed=1)
    inputs = families.batch("llama")
    with torch.no_grad():
        plain = other(**inputs).logits
        with edit(model, CHANGES):
            assert torch.equal(other(**inputs).logits, plain)
            model(**inputs)


def test_active_tells_what_is_running() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    assert active(model) == ()
    with (
        torch.no_grad(),
        edit(model, {0: edits.zero(at=1)}),
        edit(model.model, {"norm": edits.zero()}),
    ):
        assert active(model) == ("blocks.0.resid_post: zero (at=1)", "norm: zero")
        assert active(model.model.layers) == active(model)
        assert active(families.build("llama")) == ()
        model(**inputs)
    assert active(model) == ()


def test_extract_refuses_to_store_an_edited_model(tmp_path: Path) -> None:
    model = families.build("llama")
    texts = [torch.randn(2, 3)]
    with (
        pytest.raises(
            ValueError, match=r"an edit is running on this model \(blocks\.0\.resid_post: zero"
        ),
        edit(model, {0: edits.zero()}),
    ):
        extract(model, texts, to=tmp_path / "store", progress=False)
    assert not (tmp_path / "store").exists()


def test_an_anatomy_is_not_read_from_the_edited_model() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    want = {site: str(place) for site, place in anatomy(families.build("llama")).sites.items()}
    calls: list[int] = []

    def count(x: Tensor) -> Tensor:
        calls.append(1)
        return torch.zeros_like(x)

    with torch.no_grad(), edit(model, {"model.layers.0": count}), capture(model, "all") as seen:
        model(**inputs)
    assert {site: str(place) for site, place in anatomy(model).sites.items()} == want
    assert len(calls) == 1
    assert not seen[0].any()
    assert not passes._looking


def test_a_loss_is_not_that_of_changed_logits() -> None:
    model, inputs = families.build("llama"), families.batch("llama")
    with torch.no_grad(), edit(model, {"logits": edits.zero()}) as running:
        out = model(**inputs, labels=inputs["input_ids"])
    assert not out.logits.any()
    assert running.notes == ("the model's loss was computed before its logits were changed",)
