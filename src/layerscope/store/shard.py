"""One shard: a safetensors file with the tensors and a Parquet file with their rows.

The pair is bound: the safetensors header holds the size and checksum of the Parquet file, is
written last, and its presence is what makes the shard exist.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from layerscope.store import layout, rowfile
from layerscope.store.disk import publish
from layerscope.store.errors import CorruptShard
from layerscope.store.key import FORMAT
from layerscope.store.layout import SiteSpec, checksum

if TYPE_CHECKING:
    import pandas as pd


def shard_name(index: int) -> str:
    return f"{index:06d}"


def write_shard(
    folder: Path,
    index: int,
    key: str,
    sites: Mapping[str, SiteSpec],
    tensors: Mapping[str, Tensor],
    frame: pd.DataFrame,
    info: Mapping[str, int],
) -> None:
    """Write one pair, rows first; after an error or a kill the shard is absent, never half there.

    Raises:
        ValueError: `tensors` are not exactly the store's sites, widths and dtype for these rows.
        OSError: the system could not write; a full disk says how much is needed.
    """
    _check(sites, tensors, len(frame))
    buffers = {name: raw_bytes(tensors[name]) for name in sites}
    table = rowfile.encode(frame)
    header = layout.encode(
        sites,
        len(frame),
        {
            "layerscope": str(FORMAT),
            "key": key,
            "shard": str(index),
            "rows_bytes": str(table.nbytes),
            "rows_crc32": checksum(table),
            "info": json.dumps(dict(info), sort_keys=True),
            "crc32": json.dumps({name: checksum(data) for name, data in buffers.items()}),
        },
    )
    size = len(header) + sum(data.nbytes for data in buffers.values())
    name = shard_name(index)
    partner, whole = folder / f"{name}.parquet", folder / f"{name}.safetensors"
    publish(partner, [table], table.nbytes)
    try:
        publish(whole, [header, *buffers.values()], size)
    except BaseException:
        if not whole.exists():
            with suppress(OSError):
                partner.unlink(missing_ok=True)
        raise


def _check(sites: Mapping[str, SiteSpec], tensors: Mapping[str, Tensor], count: int) -> None:
    if tensors.keys() != sites.keys():
        raise ValueError(f"the store holds {sorted(sites)}, got tensors for {sorted(tensors)}")
    for name, spec in sites.items():
        got = tensors[name]
        if tuple(got.shape) != (count, spec.width) or got.dtype != spec.dtype:
            raise ValueError(
                f"{name}: the store needs {spec.dtype} [{count}, {spec.width}], "
                f"got {got.dtype} {list(got.shape)}"
            )


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor in C order; no copy where it already lies so in host memory."""
    flat = tensor.detach().contiguous().cpu().reshape(-1)
    return flat.view(torch.uint8).numpy().data


@dataclass(frozen=True)
class Shard:
    """A shard on disk whose header, sizes and partner have been checked, its contents not yet."""

    path: Path
    """The safetensors file."""
    index: int
    rows: int
    offsets: Mapping[str, int]
    """Where the tensor of each site begins, in bytes from the start of the file."""
    metadata: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, key: str, sites: Mapping[str, SiteSpec]) -> Shard:
        """Read the header and check everything that costs no reading of contents.

        Raises:
            CorruptShard: truncated, altered header, of another store, or its rows are not there.
        """
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise corrupt(path, f"is truncated: {size} bytes")
            body = file.read(length)
        try:
            table = layout.decode(body)
        except ValueError as error:
            raise corrupt(path, str(error)) from error
        metadata = table.pop("__metadata__")
        shard = cls(
            path=path,
            index=int(metadata["shard"]),
            rows=next(iter(table.values()))["shape"][0] if table else 0,
            offsets={name: 8 + length + entry["data_offsets"][0] for name, entry in table.items()},
            metadata=metadata,
        )
        shard._check_place(key)
        shard._check_shapes(table, sites, size)
        shard._check_partner()
        return shard

    @property
    def rows_path(self) -> Path:
        return self.path.with_suffix(".parquet")

    @property
    def info(self) -> dict[str, int]:
        counts: dict[str, int] = json.loads(self.metadata["info"])
        return counts

    def _check_place(self, key: str) -> None:
        if self.metadata["key"] != key:
            raise corrupt(self.path, f"belongs to another store (key {self.metadata['key']})")
        if shard_name(self.index) != self.path.stem:
            raise corrupt(self.path, f"is shard {self.index} under another number")

    def _check_shapes(
        self, table: Mapping[str, Any], sites: Mapping[str, SiteSpec], size: int
    ) -> None:
        found = {name: (entry["dtype"], entry["shape"]) for name, entry in table.items()}
        wanted = {
            name: (layout.DTYPES[spec.dtype], [self.rows, spec.width])
            for name, spec in sites.items()
        }
        if found != wanted:
            raise corrupt(self.path, f"holds {found}, store.json says {wanted}")
        end = max((self.offsets[n] + self.rows * s.row_bytes for n, s in sites.items()), default=0)
        if size != end:
            raise corrupt(self.path, f"is {size:,} bytes long, its header says {end:,}")

    def _check_partner(self) -> None:
        if not self.rows_path.is_file():
            raise corrupt(self.rows_path, "is missing beside its safetensors file")
        size, wanted = self.rows_path.stat().st_size, int(self.metadata["rows_bytes"])
        if size != wanted:
            raise corrupt(self.rows_path, f"is {size:,} bytes long, its partner says {wanted:,}")

    def array(self, site: str, spec: SiteSpec) -> Tensor:
        """The tensor of a site, [rows, width], on a fresh private memory map.

        Nothing is read until touched. Writing into it changes neither the file nor any other map.
        The file is opened and closed here, so a thousand shards hold no file handles.
        """
        size = self.path.stat().st_size
        storage: Any = torch.UntypedStorage.from_file(str(self.path), False, size)
        start = self.offsets[site] // spec.dtype.itemsize
        empty = torch.empty(0, dtype=spec.dtype)
        return empty.set_(storage, start, (self.rows, spec.width), (spec.width, 1))

    def verify(self, sites: Mapping[str, SiteSpec]) -> None:
        """Read every byte and compare with the checksums.

        Raises:
            CorruptShard: names the file and the site.
        """
        sums = json.loads(self.metadata["crc32"])
        for site, spec in sites.items():
            if checksum(raw_bytes(self.array(site, spec))) != sums[site]:
                raise corrupt(self.path, f"is damaged in {site} (checksum differs)")
        if checksum(self.rows_path.read_bytes()) != self.metadata["rows_crc32"]:
            raise corrupt(self.rows_path, "is damaged or of another run (checksum differs)")


def corrupt(path: Path, what: str) -> CorruptShard:
    stem = path.stem
    return CorruptShard(
        f"{path} {what}. Delete {stem}.safetensors and {stem}.parquet in {path.parent} and run "
        "extract again: only this shard is computed anew"
    )


def as_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The same memory for numpy, which has no bfloat16: half-width floats as their 16 bits."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
