"""A frozen eraser: any shape, dtype and place; saved and loaded; an edit of a running model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from layerscope.hooks.capture import capture
from layerscope.hooks.edits import change, edit
from layerscope.planted.gaussian_classes import gaussian_classes
from layerscope.probes.erasers import Eraser, LeaceFit


@pytest.fixture
def eraser() -> Eraser:
    planted = gaussian_classes(3, 500, 16, gap=3)
    fit = LeaceFit(16, range(3)).update(planted.x, planted.y)
    return fit.result(site="blocks.1.resid_post", label="upos", about={"note": "ü"})


def test_shape_and_dtype_are_those_of_the_input(eraser: Eraser) -> None:
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    exact = eraser(x)
    assert exact.shape == x.shape
    torch.testing.assert_close(exact[1, 3], eraser(x[1, 3]))
    for dtype, off in ((torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.01)):
        found = eraser(x.to(dtype))
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), exact, atol=off, rtol=off)


def test_applying_twice_is_applying_once(eraser: Eraser) -> None:
    x = torch.randn(9, 16, dtype=torch.float64)
    torch.testing.assert_close(eraser(eraser(x)), eraser(x))


def test_another_width_is_refused(eraser: Eraser) -> None:
    with pytest.raises(ValueError, match=r"fitted at width 16 \(blocks.1.resid_post\), got \[2, 8"):
        eraser(torch.zeros(2, 8))


def test_what_is_saved_is_what_is_loaded(eraser: Eraser, tmp_path: Path) -> None:
    path = eraser.save(tmp_path / "deep" / "upos.safetensors")
    again = Eraser.load(path)
    x = torch.randn(4, 16)
    assert torch.equal(again(x), eraser(x))
    assert (again.method, again.site, again.label, again.about) == (
        "leace",
        "blocks.1.resid_post",
        "upos",
        {"rows": 500, "note": "ü"},
    )
    assert repr(again) == "Eraser of upos at blocks.1.resid_post: leace, 2 of 16 directions"


def test_other_files_are_refused(eraser: Eraser, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no eraser; give a file"):
        Eraser.load(tmp_path / "other.safetensors")
    words = {"layerscope.eraser": '{"format": 99}'}
    save_file({"x": torch.zeros(1)}, tmp_path / "new.safetensors", metadata=words)
    with pytest.raises(ValueError, match="another format than 1"):
        Eraser.load(tmp_path / "new.safetensors")


def test_in_a_running_model_it_is_the_map_by_hand(eraser: Eraser, gpt2: Any) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        with capture(gpt2, [0, 1]) as plain:
            gpt2(input_ids=ids)
        block = gpt2.transformer.h[1]
        expected = block(eraser(plain[0]))
        with edit(gpt2, {0: change(eraser)}), capture(gpt2, [1]) as seen:
            gpt2(input_ids=ids)
        with edit(gpt2, {0: eraser}), capture(gpt2, [1]) as bare:
            gpt2(input_ids=ids)
    expected = expected[0] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(seen[1], expected)
    torch.testing.assert_close(bare[1], expected)
    assert (seen[1] - plain[1]).abs().max() > 1e-3
