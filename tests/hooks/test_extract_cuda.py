"""The asynchronous path of extraction: side stream, pinned buffers, rows on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from layerscope.hooks.extract import extract

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@cuda
def test_cuda_rows_equal_cpu_rows(
    gpt2: nn.Module, tokenizer: Any, sentences: list[str], tmp_path: Path
) -> None:
    options = {"tokenizer": tokenizer, "progress": False}
    on_cpu = extract(gpt2, sentences, ["embed", "all"], to=tmp_path / "cpu", **options)
    on_gpu = extract(gpt2.cuda(), sentences, ["embed", "all"], to=tmp_path / "gpu", **options)
    for site in on_cpu.sites:
        torch.testing.assert_close(on_gpu[site][:], on_cpu[site][:], rtol=1e-4, atol=1e-4)
    assert on_gpu.rows.equals(on_cpu.rows)


@cuda
def test_many_small_shards_do_not_overtake_each_other(
    gpt2: nn.Module, tokenizer: Any, sentences: list[str], tmp_path: Path, monkeypatch: Any
) -> None:
    from layerscope.hooks.extracting import feeds

    monkeypatch.setattr(feeds, "FEWEST_CHARACTERS", 200)
    monkeypatch.setattr(feeds, "MOST_CHARACTERS", 200)
    texts = sentences * 50
    options = {"tokenizer": tokenizer, "progress": False, "dtype": "bfloat16"}
    store = extract(gpt2.cuda(), texts, "all", to=tmp_path / "store", **options)
    rows = store["blocks.2.resid_post"][:].float()
    first = rows[: len(rows) // 50]
    torch.testing.assert_close(rows, first.repeat(50, 1), rtol=2e-2, atol=2e-2)


@cuda
def test_the_benchmark_reaches_its_share_of_the_bare_forward_pass(tmp_path: Path) -> None:
    import subprocess
    import sys

    script = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_extract.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick"], capture_output=True, text=True, check=True
    )
    assert "share_of_bare_forward" in done.stdout
