"""Contributions of blocks: closed forms, plain hooks, architectures, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from layerscope.analyses.depth.contributions import contribution
from layerscope.analyses.depth.depth_use_finding import DepthUseFinding
from layerscope.analyses.depth_use import depth_use
from layerscope.analyses.lens import lens
from layerscope.finding import Finding
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.load import load_model
from layerscope.planted import families
from layerscope.planted.linear_stack import linear_stack
from layerscope.planted.turns import turning

WIDTH, RATIOS = 6, (0.5, 2.0, 0.1)


@pytest.fixture(scope="module")
def orthogonal() -> torch.nn.Module:
    return turning(RATIOS, tokens=9, width=WIDTH)


IDS = torch.randint(9, (4, 7), generator=torch.Generator().manual_seed(1))


def test_orthogonal_contributions_have_closed_forms(orthogonal) -> None:
    found = depth_use(orthogonal, IDS, twin=False, progress=False)
    for part in ("block", "mlp"):
        np.testing.assert_allclose(found.curve("relative_norm", part)["value"], RATIOS, rtol=1e-6)
        np.testing.assert_allclose(found.curve("cosine", part)["value"], 0, atol=1e-6)
    expected = [1 / (1 + r * r) ** 0.5 for r in RATIOS]
    np.testing.assert_allclose(found.curve("cosine_states")["value"], expected, rtol=1e-6)
    nothing = found.table[found.table["part"] == "attention"]
    assert (nothing["value"] == 0).all()


def test_attention_is_seen_apart_from_the_mlp() -> None:
    """In a prompt that repeats one token, attention applies its matrix to the token itself."""
    table = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    strengthen, erase = 0.5 * torch.eye(WIDTH), -0.4 * torch.eye(WIDTH)
    model = linear_stack(table, attention=[strengthen, None], mlp=[erase, strengthen])
    ids = torch.arange(9)[:, None].expand(9, 5)
    found = depth_use(model, ids, twin=False, progress=False)
    shown = found.table.pivot(index="layer", columns=["measure", "part"], values="value")
    expected = {
        ("relative_norm", "attention"): [0.5, 0],
        ("cosine", "attention"): [1, 0],
        ("relative_norm", "mlp"): [0.4, 0.5],
        ("cosine", "mlp"): [-1, 1],
        # 1.5 * 0.6 = 0.9 of what came in.
        ("relative_norm", "block"): [0.1, 0.5],
        ("cosine", "block"): [-1, 1],
    }
    for column, values in expected.items():
        np.testing.assert_allclose(shown[column], values, atol=2e-6, err_msg=str(column))


def test_a_ratio_is_averaged_not_a_sum_divided() -> None:
    x = torch.tensor([[1.0, 0.0], [10.0, 0.0]])
    added = torch.tensor([[1.0, 0.0], [0.0, 10.0]])
    found = contribution(x, x + added)
    assert found["relative_norm"].tolist() == [1.0, 1.0]
    assert found["cosine"].tolist() == [1.0, 0.0]
    still = contribution(x, x)
    assert still["relative_norm"].tolist() == [0.0, 0.0]
    assert still["cosine_states"].tolist() == [1.0, 1.0]


MIDDLE = {
    "llama": "post_attention_layernorm",
    "gemma2": "pre_feedforward_layernorm",
    "gpt2": "ln_2",
}


@pytest.mark.parametrize("name", MIDDLE)
def test_a_second_way_by_plain_hooks(name: str) -> None:
    model: Any = families.build(name)
    ids = families.batch(name)["input_ids"]  # type: ignore[call-overload]
    blocks = model.transformer.h if name == "gpt2" else model.model.layers
    kept: dict[tuple[int, str], torch.Tensor] = {}
    hooks = []
    for i, block in enumerate(blocks):
        middle = getattr(block, MIDDLE[name])

        def entered(module: Any, args: Any, at: Any) -> None:
            kept[at] = args[0].detach().double()

        def left(module: Any, args: Any, out: Any, at: Any) -> None:
            kept[at] = (out[0] if isinstance(out, tuple) else out).detach().double()

        hooks += [
            block.register_forward_pre_hook(lambda m, a, i=i: entered(m, a, (i, "before"))),
            middle.register_forward_pre_hook(lambda m, a, i=i: entered(m, a, (i, "middle"))),
            block.register_forward_hook(lambda m, a, o, i=i: left(m, a, o, (i, "after"))),
        ]
    with torch.no_grad():
        model(ids)
    for hook in hooks:
        hook.remove()
    found = depth_use(model, ids, twin=False, progress=False)
    ends = {
        "attention": ("before", "middle"),
        "mlp": ("middle", "after"),
        "block": ("before", "after"),
    }
    for part, (first, second) in ends.items():
        for i in range(len(blocks)):
            x, y = kept[i, first], kept[i, second]
            norms, cosines = [], []
            for row in range(2):
                for p in range(1, ids.shape[1]):
                    c = y[row, p] - x[row, p]
                    norms.append(float(c.norm() / x[row, p].norm()))
                    cosines.append(float(c @ x[row, p] / c.norm() / x[row, p].norm()))
            norm, cosine = (found.curve(m, part).iloc[i] for m in ("relative_norm", "cosine"))
            assert norm["value"] == pytest.approx(np.mean(norms), rel=1e-5)
            assert norm["largest"] == pytest.approx(np.max(norms), rel=1e-5)
            assert cosine["value"] == pytest.approx(np.mean(cosines), abs=1e-6)


@pytest.mark.parametrize("name", ["gpt_neox", "olmo2", "mixtral", "falcon"])
def test_other_families_add_up(name: str) -> None:
    model = families.build(name)
    ids = families.batch(name)["input_ids"]  # type: ignore[call-overload]
    found = depth_use(model, ids, twin=False, progress=False)
    assert set(found.table["part"]) >= {"block", "attention", "mlp"}
    assert np.isfinite(found.table["value"]).all()
    parallel = any("run in parallel" in note for note in found.notes)
    assert parallel == (name in ("gpt_neox", "falcon"))


def test_the_lens_is_the_lens_at_the_input_of_each_block() -> None:
    model = families.build("llama")
    ids = families.batch("llama")["input_ids"]  # type: ignore[call-overload]
    found = depth_use(model, ids, k=3, twin=False, progress=False)
    other = lens(model, ids, k=3, twin=False, progress=False)
    for measure in ("kl_lens_final", "overlap"):
        inputs = other.curve(measure).iloc[:-1]
        assert found.curve(measure)["value"].tolist() == inputs["value"].tolist()


def test_what_training_changes(shared_data: Any, tmp_path: Any) -> None:
    model = load_model(shared_data / "gpt2_books_steps" / "step2048")
    texts = [
        "It was a dark night, and the rain fell upon the house.",
        "She said that she would go.",
    ]
    found = depth_use(model, texts, progress=False)
    kl = found.curve("kl_lens_final")
    assert kl["value"].iloc[0] > 3 * kl["value"].iloc[-1]
    assert kl["twin"].max() < 0.1
    again = Finding.load(found.save(tmp_path / "depth"))
    assert isinstance(again, DepthUseFinding)
    assert again.answer() == found.answer()
    assert again.effective_depth()["kl"] is not None
    assert {t.name for t in again.figure().data if t.name} >= {"block", "attention", "MLP"}
    assert found.provenance.parameters["layer_evaluations"] == 16


def test_refusals(orthogonal) -> None:
    with pytest.raises(ValueError, match="every text is a single token"):
        depth_use(orthogonal, [[3], [4]], progress=False)


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(8, 8)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + torch.tanh(self.inner(h))


class Plain(torch.nn.Module):
    """A residual network of no library."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 8)
        self.blocks = torch.nn.ModuleList(Block() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h: torch.Tensor = self.embedding(x)
        for block in self.blocks:
            h = block(h)
        return h


def test_a_network_of_no_library_has_contributions() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Plain()
    ids = torch.randint(20, (4, 6), generator=torch.Generator().manual_seed(0))
    anatomy(model, example=ids)
    found = depth_use(model, ids, progress=False, twin=False)
    h = model.embedding(ids)[:, 1:].detach()
    added = torch.tanh(model.blocks[0].inner(h)).detach()
    expected = float((added.norm(dim=-1) / h.norm(dim=-1)).mean())
    assert found.curve("relative_norm", "block")["value"].iloc[0] == pytest.approx(
        expected, rel=1e-5
    )
    assert any(note.startswith("No lens: Plain has no logits") for note in found.notes)
    assert set(found.table["part"]) == {"block"}
    assert len(found.figure().data) > 0
    assert "Block 0 adds" in found.answer()
