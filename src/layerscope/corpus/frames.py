"""Records out of what other libraries hold: pandas tables and Hugging Face datasets.

Neither library is imported here: an object of theirs can exist only where it already is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from layerscope.corpus.names import nearest
from layerscope.corpus.records import Record

PIECE = 1000
"""Rows that are turned into Python values at once."""


def is_frame(source: Any) -> bool:
    """Whether this is a pandas DataFrame."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(source, pandas.DataFrame)


def is_dataset(source: Any) -> bool:
    """Whether this is a Hugging Face dataset, streaming or not, or a dict of them."""
    datasets = sys.modules.get("datasets")
    if datasets is None:
        return False
    kinds = ("Dataset", "IterableDataset", "DatasetDict", "IterableDatasetDict")
    return isinstance(source, tuple(getattr(datasets, kind) for kind in kinds))


def frame_records(frame: Any) -> Iterator[Record]:
    """Rows of a DataFrame; its index is passed over, and NaN is None."""
    for begin in range(0, len(frame), PIECE):
        piece = frame.iloc[begin : begin + PIECE]
        yield from piece.astype(object).where(piece.notna(), None).to_dict("records")


def dataset_records(dataset: Any) -> Iterator[Record]:
    """Rows of a dataset, whatever format it is set to; class numbers become class names."""
    names = _class_names(dataset)
    for piece in dataset.with_format(None).iter(batch_size=PIECE):
        for row in zip(*piece.values(), strict=True):
            record = dict(zip(piece, row, strict=True))
            yield {**record, **{name: _named(record[name], names[name]) for name in names}}


def check_single(dataset: Any) -> None:
    """Refuse a dict of splits.

    Raises:
        ValueError: it holds several datasets, and names them.
    """
    if isinstance(dataset, dict):
        raise ValueError(f"this is a dict of datasets; take one: {nearest('train', dataset)}")


def dataset_name(dataset: Any) -> str:
    """What the dataset calls itself, with its split."""
    parts = (dataset.info.dataset_name or dataset.info.builder_name, dataset.split)
    return " ".join(str(part) for part in parts if part) or "dataset"


def _class_names(dataset: Any) -> dict[str, list[str]]:
    """The names behind each column of class numbers, or of lists of them."""
    found = {}
    for name, feature in (dataset.features or {}).items():
        inner = getattr(feature, "feature", feature)
        names = getattr(inner, "names", None)
        if names:
            found[name] = list(names)
    return found


def _named(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    # datasets marks a missing class by None or by -1.
    return None if value is None or value < 0 else names[value]
