"""Planted rows as a store on disk: what probes and analyses of stored activations read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from layerscope.store import Store


@contextmanager
def planted_store(sites: Mapping[str, Tensor], **columns: Any) -> Iterator[Store]:
    """A complete store of float32 rows; it is gone when the block ends.

    Args:
        sites: Name of a site -> ``[rows, width]``.
        columns: Columns of the rows, such as ``group`` and a label. Unless given, every row is a
            text of its own.
    """
    import pandas as pd
    import torch

    from layerscope.store import Store

    count = len(next(iter(sites.values())))
    rows = {"text": range(count), "position": 0, "token_id": 0} | columns
    with TemporaryDirectory(prefix="layerscope-planted-") as folder:
        store = Store.create(
            Path(folder) / "store",
            {"rows": "tokens"},
            sites={name: x.shape[1] for name, x in sites.items()},
            dtype=torch.float32,
            about={"model": "planted", "corpus": "planted"},
        )
        store.write(
            0,
            {name: x.float() for name, x in sites.items()},
            pd.DataFrame(rows, index=range(count)),
        )
        store.finish(1)
        yield store
