"""A store of several shards whose rows say which they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from layerscope.store import Store

LENGTH = 10
"""Rows of a text."""


@pytest.fixture
def numbered(tmp_path) -> Callable[..., Store]:  # type: ignore[no-untyped-def]
    """``numbered(rows)``: row i holds i at "a" [4] and 2 i at "b" [6], in texts of 10 rows."""

    def make(rows: int = 300, *, dtype: Any = torch.float32, shards: int = 3) -> Store:
        store = Store.create(
            tmp_path / "numbered",
            {"dtype": str(dtype)},
            sites={"a": 4, "b": 6},
            dtype=dtype,
            about={"model": "counter", "corpus": "numbers"},
        )
        for index, part in enumerate(np.array_split(np.arange(rows), shards)):
            numbers = torch.from_numpy(part)[:, None]
            tensors = {"a": numbers.expand(-1, 4), "b": 2 * numbers.expand(-1, 6)}
            frame = pd.DataFrame({"text": part // LENGTH, "position": part % LENGTH})
            store.write(index, {name: x.to(dtype) for name, x in tensors.items()}, frame)
        store.finish(shards)
        return store

    return make
