"""Synthetic stores whose right answers are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from layerscope.store import Store

MakeStore = Callable[..., Store]


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """``make_store({site: [rows, width]}, group=..., label=...)``, complete and on disk."""
    made: list[Store] = []

    def make(sites: Mapping[str, Tensor], parts: Mapping[str, Any] = {}, **columns: Any) -> Store:
        rows = len(next(iter(sites.values())))
        frame = pd.DataFrame(
            {"text": range(rows), "position": 0, "token_id": 0} | columns, index=range(rows)
        )
        store = Store.create(
            tmp_path / f"store{len(made)}",
            {"rows": "tokens", **parts},
            sites={name: x.shape[1] for name, x in sites.items()},
            dtype=torch.float32,
            about={"model": "planted", "corpus": "planted"},
        )
        store.write(0, {name: x.float() for name, x in sites.items()}, frame)
        store.finish(1)
        made.append(store)
        return store

    return make


@pytest.fixture
def gaussians() -> Callable[..., tuple[Tensor, Tensor]]:
    """``gaussians(gap, rows, width)``: two classes of unit noise, means `gap` apart."""

    def make(gap: float, rows: int, width: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(rows) % 2
        x = torch.randn(rows, width, generator=generator)
        x[:, 0] += gap * (y - 0.5)
        return x, y

    return make
