"""Skips: planted answers, whole passes with plain hooks as a second computation, invariants, counts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from layerscope.analyses.layer_skip import layer_skip
from layerscope.analyses.skipping.layer_skip_finding import SkipFinding
from layerscope.analyses.skipping.skip_effects import Later
from layerscope.analyses.skipping.skip_lanes import Lane, all_lanes, run_direct, run_lanes
from layerscope.finding import Finding
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.places import module_at
from layerscope.planted import families
from layerscope.planted.linear_stack import linear_stack
from layerscope.planted.two_hop import rewired, two_hop

FAMILIES = ["llama", "gpt2", "gpt_neox", "gemma2", "mixtral", "gptj"]
LENGTHS = [9, 9, 6, 7, 4]


def some_ids(seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 61, (n,), generator=generator).tolist() for n in LENGTHS]


def skipped(model: Any, data: Any = None, **options: Any) -> SkipFinding:
    return layer_skip(model, some_ids() if data is None else data, progress=False, **options)


# A second way: one whole pass for each skip, plain hooks, one text at a time


def stream_of(x: Any) -> Tensor:
    return x[0] if isinstance(x, tuple) else x


class Plain:
    """Contributions of all blocks and probabilities, with one block skipped by a forward hook."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.blocks = [module_at(model, b.path) for b in anatomy(model).blocks]

    def __call__(
        self, ids: list[int], skip: int | None = None, at: slice | None = None
    ) -> tuple[Tensor, Tensor]:
        """``[blocks, p, d]`` contributions and ``[p, vocab]`` log-probabilities."""
        entered: dict[int, Tensor] = {}
        added: dict[int, Tensor] = {}

        def hooks(i: int) -> Iterator[Any]:
            def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
                entered[i] = (args[0] if args else kwargs["hidden_states"]).clone()

            def leave(module: nn.Module, args: Any, output: Any) -> Any:
                y = stream_of(output).clone()
                if i == skip:
                    y[:, at] = entered[i][:, at]
                added[i] = (y - entered[i])[0]
                return (y, *output[1:]) if isinstance(output, tuple) else y

            yield self.blocks[i].register_forward_pre_hook(enter, with_kwargs=True)
            yield self.blocks[i].register_forward_hook(leave)

        with ExitStack() as stack, torch.no_grad():
            for i in range(len(self.blocks)):
                for handle in hooks(i):
                    stack.callback(handle.remove)
            logits = self.model(torch.tensor([ids])).logits[0]
        return torch.stack([added[i] for i in sorted(added)]), logits.log_softmax(-1)

    def direct(self, ids: list[int], block: int, less: int, at: slice) -> Tensor:
        """What `block` adds when the contribution of `less` is taken out of its input alone."""
        added, _ = self(ids)
        found: list[Tensor] = []

        def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
            x = (args[0] if args else kwargs["hidden_states"]).clone()
            x[0, at] -= added[less][at]
            found.append(x)
            if args:
                return (x, *args[1:]), kwargs
            return args, kwargs | {"hidden_states": x}

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            found.append(stream_of(output))

        with torch.no_grad():
            first = self.blocks[block].register_forward_pre_hook(enter, with_kwargs=True)
            second = self.blocks[block].register_forward_hook(leave)
            self.model(torch.tensor([ids]))
            first.remove()
            second.remove()
        return (found[1] - found[0])[0]


def relative(base: Tensor, changed: Tensor) -> Tensor:
    return (base - changed).norm(dim=-1) / base.norm(dim=-1).clamp_min(1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_effects_equal_one_hooked_pass_for_each_skip(family: str) -> None:
    model = families.build(family)
    plain, found = Plain(model), skipped(model, cuts=0)
    blocks = len(plain.blocks)
    rows: list[dict[str, Any]] = []
    for ids in some_ids():
        base, p = plain(ids)
        for s in range(blocks):
            changed, q = plain(ids, skip=s, at=slice(1, None))
            distance = (p.exp() - q.exp()).norm(dim=-1)[1:]
            divergence = (p.exp() * (p - q)).sum(-1)[1:]
            following = torch.tensor(ids)[1:, None]
            loss = (p - q)[:-1].gather(-1, following)[1:, 0]
            for measure, values in (
                ("output", distance),
                ("divergence", divergence),
                ("loss", loss),
            ):
                rows += [{"measure": measure, "layer": s, "x": float(x)} for x in values]
            for l in range(s, blocks):
                far = relative(base[l], changed[l])[1:]
                rows += [{"measure": "later", "layer": s, "later": l, "x": float(x)} for x in far]
                if l > s:
                    near = relative(base[l], plain.direct(ids, l, s, slice(1, None)))[1:]
                    rows += [
                        {"measure": "direct", "layer": s, "later": l, "x": float(x)} for x in near
                    ]
    _same(found, pd.DataFrame(rows))


def _same(found: SkipFinding, expected: pd.DataFrame, tokens: str = "all") -> None:
    table = found.table[found.table["tokens"] == tokens].set_index(["measure", "layer", "later"])
    groups = expected.groupby(["measure", "layer", "later"], dropna=False)["x"]
    seen = 0
    for (measure, layer, later), values in groups:
        line = table.loc[(measure, layer, pd.NA if pd.isna(later) else int(later))]
        line = line.iloc[0] if isinstance(line, pd.DataFrame) else line
        assert line["value"] == pytest.approx(values.mean(), abs=2e-5, rel=1e-4), (measure, layer)
        assert line["max"] == pytest.approx(values.abs().max(), abs=2e-5, rel=1e-4)
        assert line["n"] == len(values)
        seen += 1
    assert seen == len(table)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gptj"])
def test_future_only_effects_equal_hooked_passes(family: str) -> None:
    model = families.build(family)
    plain = Plain(model)
    ids = some_ids()[0]
    wanted, cut = all_lanes(3, len(ids), 1, [4])[3:], 4
    later, near = (Later(wanted, 3, torch.tensor([ids]), own=True) for _ in range(2))
    run_lanes(model, torch.tensor([ids]), wanted, "skip", "block", later)
    run_direct(model, torch.tensor([ids]), wanted, near)
    base, _ = plain(ids)
    for s in range(3):
        changed, _ = plain(ids, skip=s, at=slice(1, cut))
        for l in range(s, 3):
            far = relative(base[l], changed[l])[cut:]
            assert float(later.sums[s, l]) == pytest.approx(float(far.sum()), abs=2e-5)
            assert float(later.most[s, l]) == pytest.approx(float(far.max()), abs=2e-5)
            if l > s:
                direct = relative(base[l], plain.direct(ids, l, s, slice(1, cut)))[cut:]
                assert float(near.sums[s, l]) == pytest.approx(float(direct.sum()), abs=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_a_sublayer_is_skipped_as_if_it_added_nothing(family: str, part: str) -> None:
    model = families.build(family)
    site = {"attention": "attn", "mlp": "mlp"}[part]
    blocks = anatomy(model).blocks
    found = skipped(model, cuts=0, part=part, no_skip_front=0)
    ids = some_ids()[0]
    with torch.no_grad():
        p = model(torch.tensor([ids])).logits[0].softmax(-1)
        for s in range(3):
            module = module_at(model, getattr(blocks[s], site))
            handle = module.register_forward_hook(_nothing)
            q = model(torch.tensor([ids])).logits[0].softmax(-1)
            handle.remove()
            one = layer_skip(model, [ids], part=part, cuts=0, no_skip_front=0, progress=False)
            expected = float((p - q).norm(dim=-1).mean())
            assert one.curve("output")["value"].iloc[s] == pytest.approx(expected, abs=1e-5)
    assert found.matrix("later").to_numpy().diagonal() != pytest.approx(1)


def _nothing(module: nn.Module, args: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (torch.zeros_like(output[0]), *output[1:])
    return torch.zeros_like(output)


@pytest.mark.parametrize("change", ["repeat", "swap"])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_repeats_and_swaps_equal_a_model_with_its_blocks_rearranged(
    family: str, change: str
) -> None:
    model: Any = families.build(family)
    found = skipped(model, change=change, cuts=0, no_skip_front=0)
    own = list(model.model.layers)
    count = 3 if change == "repeat" else 2
    distances: dict[int, list[Tensor]] = {s: [] for s in range(count)}
    for ids in some_ids():
        with torch.no_grad():
            p = model(torch.tensor([ids]), use_cache=False).logits[0].softmax(-1)
            for s in range(count):
                order = [0, 1, 2]
                order[s : s + 1 + (change == "swap")] = [s, s] if change == "repeat" else [s + 1, s]
                model.model.layers = nn.ModuleList([own[i] for i in order])
                model.config.num_hidden_layers = len(order)
                # The mask of each block follows the kind of its place, so kinds move with blocks.
                kinds = getattr(model.config, "layer_types", None)
                if kinds:
                    model.config.layer_types = [kinds[i] for i in order]
                q = model(torch.tensor([ids]), use_cache=False).logits[0].softmax(-1)
                model.model.layers = nn.ModuleList(own)
                model.config.num_hidden_layers = 3
                if kinds:
                    model.config.layer_types = kinds
                distances[s].append((p - q).norm(dim=-1))
    for s, values in distances.items():
        line = found.curve("output").set_index("layer").loc[s]
        assert line["value"] == pytest.approx(float(torch.cat(values).mean()), abs=1e-5)
    first = found.matrix("later")
    assert int(first.columns.min()) == (1 if change == "repeat" else 2)


# What holds exactly in every decoder


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_invariants(family: str) -> None:
    found = skipped(families.build(family))
    every = found.matrix("later", value="max")
    assert (np.diag(every.to_numpy(dtype=float)) == 1).all()
    assert (np.diag(found.matrix("later").to_numpy(dtype=float)) == 1).all()
    future = found.matrix("later", "future", "max")
    assert (np.diag(future.to_numpy(dtype=float)) == 0).all()
    last = found.curve("output", "future").iloc[-1]
    assert last["layer"] == 2
    assert last["max"] == 0
    assert found.curve("loss", "future")["max"].iloc[-1] == 0
    # The first block after a skip is told nothing by others: its direct effect is all there is.
    near = found.matrix("direct")
    for i in (0, 1):
        assert near.loc[i, i + 1] == pytest.approx(every_mean(found, i), rel=1e-4)
    assert found.table["noise"].dropna().max() < 1e-5


def every_mean(found: SkipFinding, i: int) -> float:
    return float(found.matrix("later").loc[i, i + 1])


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_all_single_skips_cost_as_few_layer_evaluations_as_can_be(family: str) -> None:
    model = families.build(family)
    ids = torch.tensor([some_ids()[0], some_ids()[1]])
    wanted = all_lanes(3, 9, 1, [])
    streams = run_lanes(model, ids, wanted, "skip", "block", lambda *a: None)
    assert streams.evaluations == 2 * (3 + 3 * 2 / 2)
    cuts = all_lanes(3, 9, 1, [4, 6])
    streams = run_lanes(model, ids, cuts, "skip", "block", lambda *a: None)
    assert streams.evaluations == 2 * (3 + 3 * (3 * 2 / 2))
    assert run_direct(model, ids, wanted, lambda *a: None) == 2 * (3 + 3 * 2 / 2)
    found = skipped(model, cuts=0, direct=False)
    one = len(LENGTHS) * (3 + 3 * 2 / 2)
    noise = 2 * (3 - 1)  # the lane without a change, in the first batch alone: two texts
    assert found.provenance.parameters["layer_evaluations"] == one + noise


# Planted answers


def test_a_block_that_adds_nothing_is_not_missed() -> None:
    model: Any = families.build("llama")
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight.zero_()
        model.model.layers[1].mlp.down_proj.weight.zero_()
    found = skipped(model)
    for measure in ("output", "divergence", "loss"):
        for tokens in ("all", "future"):
            lines = found.curve(measure, tokens).set_index("layer")
            assert lines.loc[1, "max"] < 1e-6  # another row of the same batch
            assert lines.loc[0, "max"] > 1e-3
    assert found.matrix("later", value="max").loc[1, 2] < 1e-6
    assert found.matrix("direct", value="max").loc[1, 2] < 1e-6


def test_in_a_chain_effects_are_passed_on_that_are_not_read_directly() -> None:
    """Block 1 reads only what block 0 wrote, block 2 only what block 1 wrote."""

    def step(source: int, target: int) -> Tensor:
        matrix = torch.zeros(4, 4)
        matrix[target, source] = 1
        return matrix

    model = linear_stack([[1.0, 0, 0, 0]] * 3, mlp=[step(0, 1), step(1, 2), step(2, 3)])
    found = layer_skip(model, [[0, 1, 2, 1], [2, 2, 0, 1]], cuts=0, progress=False)
    far, near = found.matrix("later"), found.matrix("direct")
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert far.loc[i, j] == pytest.approx(1, abs=1e-6)
    assert near.loc[0, 1] == pytest.approx(1, abs=1e-6)
    assert near.loc[1, 2] == pytest.approx(1, abs=1e-6)
    assert near.loc[0, 2] == pytest.approx(0, abs=1e-6)


def test_the_two_hop_circuit_misses_exactly_its_three_blocks() -> None:
    planted = two_hop(1, 3, 5)
    for setting in [(1, 3, 5), (0, 4, 4), (2, 3, 7), (4, 2, 6), (1, 5, 3), (5, 4, 2)]:
        planted = rewired(planted.model, *setting)
        found = layer_skip(
            planted.model, planted.prompts, no_skip_front=0, cuts=0, direct=False, progress=False
        )
        effects = found.curve("output").set_index("layer")["max"]
        moved = {int(i) for i in effects.index if effects[i] > 0.5}
        assert (effects.drop(list(moved)) < 1e-3).all()  # by way of the norm's scale alone
        circuit = {planted.bridge, planted.copy, planted.answer}
        assert moved == (circuit if planted.baseline_correct else set())
        for block in range(planted.n_blocks):
            wrong = planted.baseline_correct and not planted.skip_correct(block)
            assert wrong == (block in moved)


def test_the_first_token_is_left_alone_unless_asked() -> None:
    """Without the entity's own position the first hop cannot be skipped."""
    planted = two_hop(1, 3, 5)
    found = layer_skip(planted.model, planted.prompts[:, [0, 1, 1]], cuts=0, progress=False)
    assert any("neither changed nor read" in note for note in found.notes)
    assert found.curve("output").set_index("layer").loc[1, "max"] == 0


# What must not change the numbers


def test_batches_and_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.build("gpt2")
    whole = skipped(model).table
    monkeypatch.setattr(sys.modules["layerscope.analyses.layer_skip"], "STREAMS", 1)
    pieces = skipped(model).table
    columns = [c for c in whole if c != "noise"]
    pd.testing.assert_frame_equal(whole[columns], pieces[columns], atol=1e-6)
    one = layer_skip(model, [some_ids()[0]], cuts=0, progress=False)
    twice = layer_skip(model, [some_ids()[0]] * 2, cuts=0, progress=False)
    assert list(one.table["value"]) == pytest.approx(list(twice.table["value"]), abs=1e-6)


def test_the_model_comes_back_as_it_was() -> None:
    model = families.build("llama").train()
    state = torch.get_rng_state()
    before = {name: p.clone() for name, p in model.named_parameters()}
    skipped(model)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_twin_is_the_untrained_model() -> None:
    from layerscope.hooks.twin import untrained_twin

    model = families.build("gpt2")
    both = skipped(model, twin=True, seed=2).table
    alone = skipped(untrained_twin(model, seed=2), seed=2).table
    assert list(both["twin"]) == pytest.approx(list(alone["value"]), abs=1e-7)
    assert list(both["twin_max"]) == pytest.approx(list(alone["max"]), abs=1e-7)


# Edges


def test_an_encoder_has_no_loss_and_says_so() -> None:
    found = skipped(families.build("bert"))
    assert not len(found.curve("loss"))
    assert len(found.curve("output"))
    assert any("no loss to measure" in note for note in found.notes)
    assert "distance of the probabilities" in found.answer()


def test_a_model_without_a_head_still_shows_what_later_blocks_do() -> None:
    model: Any = families.build("llama")
    found = skipped(model.model)
    assert set(found.table["measure"]) == {"later", "direct"}
    assert any("output were not measured" in note for note in found.notes)
    assert "no output was measured" in found.answer()
    assert len(found.figure().data) >= 2


def test_a_model_whose_blocks_cannot_be_run_one_by_one_is_skipped_by_hooks() -> None:
    model = families.build("rwkv")
    found = skipped(model, cuts=0)
    assert set(found.table["measure"]) == {"later", "output", "divergence", "loss"}
    told = " ".join(found.notes)
    assert "whole passes with hooks" in told
    assert "Direct effects were not measured" in told
    assert (np.diag(found.matrix("later").to_numpy(dtype=float)) == 1).all()
    with pytest.raises(RuntimeError, match="so a repeat cannot be tried"):
        skipped(model, change="repeat")


def test_short_and_long_and_many_texts_are_told() -> None:
    model = families.build("llama")
    found = skipped(model, [*some_ids(), [5], [6, 7]], max_texts=3, max_tokens=5)
    told = " ".join(found.notes)
    assert "2 texts of fewer than 3 tokens were left out" in told
    assert "3 of 5 texts, drawn at random" in told
    assert "were cut at 5 tokens" in told
    with pytest.raises(ValueError, match="no text has 3 tokens or more"):
        skipped(model, [[5], [6, 7]])


def test_what_does_not_fit_is_refused() -> None:
    model = families.build("llama")
    with pytest.raises(ValueError, match="change is skip, repeat, swap, not 'drop'"):
        skipped(model, change="drop")
    with pytest.raises(ValueError, match="part is block, attention, mlp, not 'norm'"):
        skipped(model, part="norm")
    with pytest.raises(ValueError, match="change='repeat' is for whole blocks"):
        skipped(model, change="repeat", part="mlp")
    with pytest.raises(ValueError, match="no_skip_front is 0 or more"):
        skipped(model, no_skip_front=-1)
    with pytest.raises(ValueError, match="has an encoder and a decoder"):
        skipped(families.build("t5"))
    with pytest.raises(LookupError, match="no stack of blocks"):
        skipped(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="ViTForImageClassification reads no tokens"):
        skipped(families.build("vit"))


def test_the_finding_is_saved_whole_and_drawn(tmp_path: Any) -> None:
    found = skipped(families.build("llama"), twin=True)
    again = Finding.load(found.save(tmp_path / "finding"))
    assert isinstance(again, SkipFinding)
    assert again.answer() == found.answer()
    pd.testing.assert_frame_equal(again.matrix(), found.matrix())
    figure = found.figure()
    maps = [trace for trace in figure.data if trace.type == "heatmap"]
    assert [trace.visible for trace in maps] == [True] + [False] * 4
    assert figure.layout.updatemenus[0].buttons[1].args[0]["visible"].count(True) == (
        len(figure.data) - 4
    )
    assert len(skipped(families.build("llama"), cuts=0, direct=False).figure().data) >= 4


def test_a_lane_without_a_change_is_the_noise_floor() -> None:
    model = families.build("llama")
    ids = torch.tensor([some_ids()[0]])
    wanted = [Lane(-1, 0, 9, 1), Lane(1, 1, 9, 1)]
    later = Later(wanted, 3, ids, own=True)
    streams = run_lanes(model, ids, wanted, "skip", "block", later)
    assert later.most[0].max() < 1e-5
    torch.testing.assert_close(streams.lanes[0], streams.base, atol=1e-5, rtol=1e-5)
    assert later.most[1, 2] > 1e-3


def test_one_text_has_no_interval_and_none_is_spoken_of() -> None:
    found = layer_skip(families.build("llama"), [[5, 6, 7, 8, 9]], progress=False)
    assert "nan" not in found.answer()
