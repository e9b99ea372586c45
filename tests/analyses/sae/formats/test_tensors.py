"""Reading files of tensors: sizes that must agree, and what an error says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.formats.tensors import Tensors, open_tensors, read_json, setting


def test_sizes_are_bound_by_the_first_key() -> None:
    tensors = Tensors(Path("x.pt"), {"a": torch.zeros(3, 4), "b": torch.zeros(5)})
    tensors.take("a", "latents", "width")
    words = "x.pt: 'b' has shape [5], it must be [latents = 3] (from 'a')"
    with pytest.raises(ValueError, match=re.escape(words)):
        tensors.take("b", "latents")


def test_a_misfit_binds_nothing() -> None:
    tensors = Tensors(Path("x.pt"), {"a": torch.zeros(3, 4), "b": torch.zeros(5)})
    with pytest.raises(ValueError, match=r"'a' has shape \[3, 4\], it must be \[latents\]"):
        tensors.take("a", "latents")
    assert tensors.take("b", "latents").shape == (5,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_less_than_float32_becomes_float32(dtype) -> None:
    assert Tensors(Path("x"), {"a": torch.ones(2, dtype=dtype)}).take("a", "n").dtype == torch.float


def test_float64_stays() -> None:
    values = {"a": torch.ones(2, dtype=torch.float64)}
    assert Tensors(Path("x"), values).take("a", "n").dtype == torch.float64


def test_nan_is_named() -> None:
    tensors = Tensors(Path("x.pt"), {"a": torch.tensor([1.0, torch.nan])})
    with pytest.raises(ValueError, match=r"x\.pt: 'a' holds NaN"):
        tensors.take("a", "n")


def test_no_tensor_is_named() -> None:
    with pytest.raises(ValueError, match=r"x\.pt: 'a' is a str, not a tensor"):
        Tensors(Path("x.pt"), {"a": "b"}).take("a", "n")


def test_numbers() -> None:
    tensors = Tensors(Path("x.pt"), {"a": 3, "b": torch.tensor([2.5]), "c": torch.zeros(2)})
    assert (tensors.number("a"), tensors.number("b")) == (3.0, 2.5)
    with pytest.raises(ValueError, match=r"'c' has shape \[2\], not one value"):
        tensors.number("c")


@pytest.mark.parametrize("name", ["x.safetensors", "x.npz", "x.pt"])
def test_damaged_files_are_said(tmp_path, name) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 rubbish")
    with pytest.raises(ValueError, match=f"{re.escape(name)} (is damaged|holds more)"):
        open_tensors(tmp_path / name)


def test_a_missing_file_is_said(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x\.npz does not exist"):
        open_tensors(tmp_path / "x.npz")


def test_a_list_is_no_state_dict(tmp_path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt holds a list, not a state_dict"):
        open_tensors(tmp_path / "x.pt")


def test_numpy_archives(tmp_path) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(6, dtype=np.float16).reshape(2, 3))
    found = open_tensors(tmp_path / "x.npz").take("a", "r", "c")
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_json(tmp_path) -> None:
    path = tmp_path / "cfg.json"
    with pytest.raises(FileNotFoundError, match=r"cfg\.json does not exist; it says what"):
        read_json(path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"cfg\.json is no JSON"):
        read_json(path)
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"cfg\.json holds a list, not an object"):
        read_json(path)
    path.write_text('{"k": 3}')
    assert setting(read_json(path), "k", path) == 3
    with pytest.raises(ValueError, match=r"cfg\.json: no key 'd_in'; there is k"):
        setting(read_json(path), "d_in", path)
