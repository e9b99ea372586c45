"""Windows of blocks side by side: the law of small steps, maps that cancel, plain hooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerscope.analyses.parallel_windows import parallel_windows
from layerscope.analyses.skipping.parallel_windows_finding import WindowsFinding
from layerscope.analyses.skipping.window_streams import Interactions, Windows
from layerscope.finding import Finding
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.places import module_at
from layerscope.hooks.replay import record
from layerscope.planted import families
from layerscope.planted.linear_stack import linear_stack

TEXTS = [[5, 9, 12, 40, 7], [3, 3, 8, 21, 9], [60, 59, 58]]


def windows(model: Any, data: Any = None, **options: Any) -> WindowsFinding:
    return parallel_windows(model, TEXTS if data is None else data, progress=False, **options)


def cell(found: WindowsFinding, layer: int, blocks: int) -> Any:
    return found.table.set_index(["layer", "blocks"]).loc[(layer, blocks)]


def matrices(count: int, scale: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [scale * torch.randn(6, 6, generator=generator).double() for _ in range(count)]


def states() -> Tensor:
    return torch.randn(61, 6, generator=torch.Generator().manual_seed(0)).double()


def test_the_error_of_small_steps_is_of_second_order() -> None:
    """Sequential (1 + eA)(1 + eB) against 1 + eA + eB: the difference is e^2 AB."""
    constants = []
    for epsilon in (1e-1, 1e-2, 1e-3):
        model = linear_stack(states(), mlp=matrices(3, epsilon))
        run = record(model, {"input_ids": torch.tensor([TEXTS[0]])})
        pairs = Interactions(run, 3)
        run.perform(pairs)
        play = Windows(run, 0, 3, pairs.found, torch.Generator())
        run.perform(play)
        added = (run.residuals[3] - run.residuals[0]).norm(dim=-1).double()
        constants.append(float((play.moved[1] * added).sum()) / epsilon**2)
    assert constants[1] == pytest.approx(constants[2], rel=0.05)
    assert constants[0] == pytest.approx(constants[2], rel=0.5)
    assert constants[2] > 0.1


def test_maps_that_cancel_each_other_lose_nothing_side_by_side() -> None:
    """A_i A_j = 0: no block reads what another one of the window wrote."""
    blocks = []
    for i in range(3):
        matrix = torch.zeros(6, 6)
        matrix[3 + i, :3] = torch.tensor([1.0, -0.5, 2.0]) * (i + 1)  # reads 0..2, writes 3..5
        blocks.append(matrix)
    found = windows(linear_stack(states(), mlp=blocks))
    assert (found.table["moved"] < 1e-6).all()
    assert (found.table["predicted"] < 1e-6).all()
    assert (found.table["value"] < 1e-6).all()
    assert (found.table["loss"].abs() < 1e-6).all()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2", "mixtral", "gptj"])
def test_windows_equal_blocks_fed_by_plain_hooks(family: str) -> None:
    model: Any = families.build(family)
    found = windows(model)
    blocks = [module_at(model, b.path) for b in anatomy(model).blocks]
    expected: dict[tuple[int, int], list[Tensor]] = {}
    for ids in TEXTS:
        with torch.no_grad():
            p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            for layer, count in [(0, 2), (1, 2), (0, 3)]:
                q = _hooked(model, blocks, ids, layer, count).log_softmax(-1)
                kl = (p.exp() * (p - q)).sum(-1)
                expected.setdefault((layer, count), []).append(kl)
    for (layer, count), values in expected.items():
        assert cell(found, layer, count)["value"] == pytest.approx(
            float(torch.cat(values).mean()), abs=2e-6, rel=1e-4
        )
    assert found.table["noise"].max() < 1e-6


def _hooked(model: Any, blocks: list[nn.Module], ids: list[int], layer: int, count: int) -> Tensor:
    """Every block of the window is handed the window's input; the last one returns the sum."""
    seen: list[Tensor] = []
    added: list[Tensor] = []
    handles = []

    def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
        x = args[0] if args else kwargs["hidden_states"]
        if not seen:
            seen.append(x.clone())
        if args:
            return (seen[0], *args[1:]), kwargs
        return args, kwargs | {"hidden_states": seen[0]}

    def leave(module: nn.Module, args: Any, output: Any) -> Any:
        y = output[0] if isinstance(output, tuple) else output
        added.append(y - seen[0])
        y = seen[0] + sum(added)
        return (y, *output[1:]) if isinstance(output, tuple) else y

    for block in blocks[layer : layer + count]:
        handles.append(block.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(block.register_forward_hook(leave))
    logits: Tensor = model(torch.tensor([ids])).logits[0]
    for handle in handles:
        handle.remove()
    return logits


def test_two_blocks_differ_by_exactly_their_interaction() -> None:
    found = windows(families.build("llama")).table
    pairs = found[found["blocks"] == 2]
    assert list(pairs["moved"]) == pytest.approx(list(pairs["predicted"]), rel=1e-4)


def test_the_first_block_of_a_window_is_the_baseline() -> None:
    """A window of one block: the stream after it is the recorded one, whatever comes next."""
    model = families.build("gemma2")
    run = record(model, {"input_ids": torch.tensor([TEXTS[0]])})
    pairs = Interactions(run, 3)
    run.perform(pairs)
    play = Windows(run, 0, 3, pairs.found, torch.Generator())
    run.perform(play)
    assert play.last is not None
    torch.testing.assert_close(play.last[0], run.residuals[-1], atol=1e-6, rtol=1e-6)


def test_the_control_moves_the_stream_as_far() -> None:
    model = families.build("llama")
    run = record(model, {"input_ids": torch.tensor([TEXTS[0]])})
    pairs = Interactions(run, 3)
    run.perform(pairs)
    play = Windows(run, 1, 2, pairs.found, torch.Generator().manual_seed(0))
    run.perform(play)
    assert play.last is not None
    window, control = (x - run.residuals[3] for x in play.last)
    torch.testing.assert_close(window.norm(dim=-1), control.norm(dim=-1), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(window, control, atol=1e-2)


def test_windows_are_as_long_as_asked_and_evaluations_are_counted() -> None:
    found = windows(families.build("llama"), longest=2)
    assert list(found.table["blocks"]) == [2, 2]
    every = windows(families.build("llama"), longest=None)
    assert len(every.table) == 3
    # Record 3; pairs 1 + 2; start 0: block 1 twice, block 2 on noise, window, control and source;
    # start 1: block 2 once.
    assert every.provenance.parameters["layer_evaluations"] == len(TEXTS) * (3 + 3 + 2 + 4 + 1)
    with pytest.raises(ValueError, match="a window has two blocks or more"):
        windows(families.build("llama"), longest=1)
    with pytest.raises(RuntimeError, match="so windows cannot be tried"):
        windows(families.build("rwkv"))


def test_the_finding_is_saved_whole_and_drawn(tmp_path: Any) -> None:
    found = windows(families.build("llama"))
    again = Finding.load(found.save(tmp_path / "finding"))
    assert again.answer() == found.answer()
    assert "side by side" in found.answer()
    assert [trace.type for trace in found.figure().data] == ["heatmap", "heatmap"]
