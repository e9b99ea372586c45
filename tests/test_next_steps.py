"""A refusal says what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import layerscope as ls


def test_no_text_names_the_column(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"'a' holds no text; is the file empty, or .*text="):
        ls.read(tmp_path / "a.txt")


def test_a_name_in_place_of_a_model() -> None:
    with pytest.raises(TypeError, match=r"got str; load_model\(name\) makes one"):
        ls.anatomy("gpt2")  # type: ignore[arg-type]


def test_a_function_that_returns_no_model(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def build():\n    return 3\n")
    with pytest.raises(TypeError, match=r"it must return the nn\.Module itself"):
        ls.load_model(f"{tmp_path / 'mine.py'}:build")


def test_rows_of_a_store(make_store: Any) -> None:
    store = make_store({"embed": torch.zeros(6, 4)}, upos="X")
    with pytest.raises(IndexError, match="row 9 of 6; rows are 0 to 5"):
        store["embed"][[9]]
    with pytest.raises(IndexError, match=r"mask of 3 for 6 rows; make it from store\.rows"):
        store["embed"][torch.ones(3, dtype=torch.bool)]


def test_one_class_asks_for_more(make_store: Any) -> None:
    store = make_store({"embed": torch.randn(60, 4)}, upos="X", group=[str(i) for i in range(60)])
    with pytest.raises(ValueError, match="two classes; take more of the data, or another label"):
        ls.probe(store, "embed", label="upos", progress=False)


def test_a_readout_at_another_width() -> None:
    from layerscope.probes.readouts.linear import LinearReadout

    one = torch.ones
    readout = LinearReadout(weight=one(2, 4), bias=one(2), mean=one(4), scale=one(4))
    with pytest.raises(ValueError, match=r"width 4, got \[5\]; give \[\.\.\., 4\] of the site"):
        readout.predict(one(5))
