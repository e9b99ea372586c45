"""A refusal says what to do next."""

from __future__ import annotations

import re
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import layerscope as ls
from layerscope.hooks.sites import resolve
from layerscope.planted import families


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


def test_names_of_transformerlens_are_known() -> None:
    model = families.build("gpt2")
    for theirs, ours in (
        ("blocks.1.hook_resid_post", "blocks.1.resid_post"),
        ("blocks.1.attn.hook_pattern", "blocks.1.pattern"),
        ("hook_embed", "embed"),
        ("ln_final.hook_normalized", "norm"),
    ):
        with pytest.raises(LookupError, match=f"did you mean '{re.escape(ours)}'"):
            resolve(model, theirs)


def test_half_a_site_and_a_number_as_text() -> None:
    model = families.build("gpt2")
    with pytest.raises(LookupError, match=r"of every block: 'blocks\.\*\.resid_post'"):
        resolve(model, "resid_post")
    with pytest.raises(LookupError, match="is the int -1, without quotes"):
        resolve(model, "-1")


def test_numbers_of_numpy_are_layers() -> None:
    model = families.build("gpt2")
    assert resolve(model, np.int64(1)) == ("blocks.1.resid_post",)
    assert resolve(model, np.arange(2)) == ("blocks.0.resid_post", "blocks.1.resid_post")


def test_one_block_is_one() -> None:
    model = nn.Sequential(nn.ModuleList([nn.Linear(2, 2)]))
    with pytest.raises(IndexError, match="has one block: 0; other places are named by module path"):
        resolve(model, 3)


def test_labels_among_the_inputs() -> None:
    x = torch.zeros(4, 2)
    with pytest.raises(TypeError, match=r"called with 2 tensors: .*Samples\(inputs, labels="):
        ls.extract(nn.Linear(2, 2), (x, torch.arange(4)), [""], progress=False)


def test_a_folder_in_place_of_a_run() -> None:
    with pytest.raises(TypeError, match=r"open_run\(folder\) gives, got str"):
        ls.analyses.information_plane("run")  # type: ignore[arg-type]


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(
        ValueError, match=r"device 'cuda:77' cannot be used here .*there is: .*cpu$"
    ):
        ls.load_model("nowhere", device="cuda:77")


def test_a_file_of_another_encoding(tmp_path: Path) -> None:
    for codec, name in (("utf-16", "utf-16"), ("cp1252", "windows-1252")):
        (tmp_path / "a.txt").write_bytes("d\u00e9j\u00e0 \u2013 vu\n".encode(codec))
        with pytest.raises(ValueError, match=f"iconv -f {name} -t utf-8 a.txt > utf8-a.txt"):
            len(ls.read(tmp_path / "a.txt"))


def test_an_extraction_that_is_stopped_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layerscope.hooks.extracting import filling

    data = ls.Samples(torch.zeros(4, 2))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(filling.Filling, "_compute", interrupt)
    with pytest.raises(KeyboardInterrupt, match="before the first shard was whole"):
        ls.extract(nn.Linear(2, 2), data, [""], to=tmp_path / "acts", progress=False)
    (tmp_path / "acts" / "shards" / "000007.safetensors").touch()
    assert filling._stopped(types.SimpleNamespace(path=tmp_path / "acts")).startswith(  # type: ignore[arg-type]
        "stopped; 1 shard is whole and kept in"
    )
