"""Parts that are bypassed do not run, and the model computes what the edited one computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.bypass import Part, bypassed
from layerscope.hooks.edits import edit, skip
from layerscope.hooks.places import module_at
from layerscope.planted import families

FAMILIES = [
    "llama",
    "gpt2",
    "gpt_neox",
    "gemma2",
    "mixtral",
    "gptj",
    "olmo2",
    "falcon",
    "phi",
    "bert",
]
SITES = {"block": "resid_post", "attention": "attn_out", "mlp": "mlp_out"}


def logits(model: Any, family: str) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(**families.batch(family)).logits  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", list(SITES))
def test_bypassed_equals_skipped_by_an_edit(family: str, kind: str) -> None:
    if family == "bert" and kind != "block":
        pytest.skip("BERT's sublayers add the stream themselves: not what bypassing is for")
    model = families.build(family)
    whole = logits(model, family)
    parts: list[Part] = [(kind, 0), (kind, 2)]
    with edit(model, {f"blocks.{i}.{SITES[kind]}": skip() for _, i in parts}):
        edited = logits(model, family)
    with bypassed(model, parts, lambda: logits(model, family)):
        reduced = logits(model, family)
    torch.testing.assert_close(reduced, edited, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(reduced, whole, atol=1e-3)
    assert torch.equal(logits(model, family), whole)
    assert not any("forward" in m.__dict__ for m in model.modules())


@pytest.mark.parametrize("kind", list(SITES))
def test_what_is_bypassed_does_not_run(kind: str) -> None:
    model = families.build("llama")
    block = anatomy(model).blocks[1]
    path = {"block": block.path, "attention": block.attn, "mlp": block.mlp}[kind]
    inside = [m for m in module_at(model, str(path)).modules() if not list(m.children())]
    ran: list[object] = []
    with bypassed(model, [(kind, 1)], lambda: logits(model, "llama")):
        for module in inside:
            module.register_forward_hook(lambda m, args, out: ran.append(m))
        logits(model, "llama")
    assert not ran
    logits(model, "llama")
    assert ran


def test_a_forward_of_ones_own_comes_back() -> None:
    model: Any = families.build("llama")
    block = model.model.layers[1]
    own = block.forward
    block.forward = lambda *args, **kwargs: own(*args, **kwargs)
    mine = block.forward
    with (
        pytest.raises(RuntimeError, match="stop"),
        bypassed(model, [("block", 1)], lambda: logits(model, "llama")),
    ):
        raise RuntimeError("stop")
    assert block.forward is mine


def test_what_is_not_there_is_refused() -> None:
    model = families.build("llama")
    with (
        pytest.raises(LookupError, match="block 7 asked; the model has blocks 0 to 2"),
        bypassed(model, [("block", 7)], lambda: None),
    ):
        pass
    albert = families.build("albert")
    with (
        pytest.raises(LookupError, match=r"blocks 0, 1, 2 share one module, .* use an edit"),
        bypassed(albert, [("block", 1)], lambda: None),
    ):
        pass
    mamba = families.build("mamba")
    with (
        pytest.raises(LookupError, match="block 0 has no mlp that is a module of its own"),
        bypassed(mamba, [("mlp", 0)], lambda: None),
    ):
        pass
