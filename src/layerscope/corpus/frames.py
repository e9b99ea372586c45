"""Recognising what other libraries hold, and records out of pandas and Hugging Face tables.

None of these libraries is imported here: an object of theirs exists only where it already is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
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


def is_array(source: Any) -> bool:
    """Whether this is a numpy array."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(source, numpy.ndarray)


def is_samples(source: Any) -> bool:
    """Whether this was read already."""
    samples = sys.modules.get("layerscope.corpus.samples")
    return samples is not None and isinstance(source, samples.Samples)


def is_tensors(source: Any) -> bool:
    """Whether this is numbers for a model that reads no text: tensors, arrays or a loader."""
    if isinstance(source, Mapping):
        return any(_is_tensor(value) for value in source.values())
    if isinstance(source, (tuple, list)):
        return bool(source) and all(_is_tensor(value) for value in source)
    torch = sys.modules.get("torch")
    data = torch and (torch.utils.data.DataLoader, torch.utils.data.Dataset)
    return _is_tensor(source) or bool(data and isinstance(source, data))


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return True
    return is_array(value) and value.ndim > 0 and value.dtype.kind in "biuf"


def column_records(columns: Mapping[str, Any]) -> Iterator[Record]:
    """Rows of a mapping from names to lists of one length."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of different lengths: {lengths}")
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))


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
