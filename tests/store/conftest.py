"""A small store whose numbers the tests know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from layerscope.store import Store

SITES = {"blocks.0.resid_post": 6, "blocks.1.resid_post": 6, "blocks.0.mlp_act": 10}


@dataclass
class Known:
    store: Store
    truth: dict[str, Tensor]
    """What each site must read as, all shards together."""
    frame: pd.DataFrame

    @property
    def shards(self) -> Path:
        return self.store.path / "shards"


def frame_of(shard: int, rows: int) -> pd.DataFrame:
    """The rows of one shard: two texts, string, whole, broken and missing label values."""
    text = [2 * shard + (i >= rows // 2) for i in range(rows)]
    return pd.DataFrame(
        {
            "text": text,
            "position": range(rows),
            "token_id": [7 * i % 5 for i in range(rows)],
            "token": [f"t{7 * i % 5}" for i in range(rows)],
            "char_start": range(rows),
            "char_end": range(1, rows + 1),
            "group": [f"g{t}" for t in text],
            "upos": [("NOUN", "VERB", None)[i % 3] for i in range(rows)],
            "depth": [float(i) if i % 4 else None for i in range(rows)],
            "content": pd.Categorical([f"the content of {t}" for t in text]),
        }
    )


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Known]:
    def build(
        sizes: tuple[int, ...] = (5, 0, 7, 1), dtype: torch.dtype = torch.float32, name: str = "s"
    ) -> Known:
        torch.manual_seed(0)
        truth = {site: torch.randn(sum(sizes), width).to(dtype) for site, width in SITES.items()}
        parts = {"model": {"class": "M"}, "dtype": str(dtype), "corpus": "c"}
        store = Store.create(
            tmp_path / name, parts, sites=SITES, dtype=dtype, about={"model": "m", "corpus": "c"}
        )
        frames = [frame_of(index, rows) for index, rows in enumerate(sizes)]
        first = 0
        for index, rows in enumerate(sizes):
            tensors = {site: all_rows[first : first + rows] for site, all_rows in truth.items()}
            store.write(index, tensors, frames[index], {"truncated": index})
            first += rows
        store.finish(len(sizes), ["a note"])
        filled = [frame for frame in frames if len(frame)] or frames
        return Known(store, truth, pd.concat(filled or [frame_of(0, 0)], ignore_index=True))

    return build


@pytest.fixture
def known(make: Callable[..., Known]) -> Known:
    return make()
