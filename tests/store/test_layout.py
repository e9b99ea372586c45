"""The files are what docs/store.md says: plain safetensors and Parquet, readable without us."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import safetensors
import safetensors.torch
import torch

from layerscope.store import SiteSpec
from layerscope.store.layout import checksum, decode, encode


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str
)
def test_safetensors_itself_reads_every_shard(make: Callable[..., Any], dtype: torch.dtype) -> None:
    known = make((5, 0, 8), dtype)
    for index, rows in enumerate([slice(0, 5), slice(5, 5), slice(5, 13)]):
        path = known.shards / f"00000{index}.safetensors"
        loaded = safetensors.torch.load_file(path)
        assert loaded.keys() == known.truth.keys()
        for site, truth in known.truth.items():
            assert loaded[site].dtype == dtype
            assert torch.equal(loaded[site], truth[rows])
        with safetensors.safe_open(path, "pt") as file:
            assert file.metadata()["shard"] == str(index)
            assert torch.equal(
                file.get_slice("blocks.0.mlp_act")[1:3], loaded["blocks.0.mlp_act"][1:3]
            )


def test_pandas_itself_reads_the_rows(known: Any) -> None:
    frame = pd.read_parquet(known.shards / "000002.parquet")
    assert list(frame.columns) == list(known.frame.columns)
    assert frame["content"].iloc[0] == "the content of 4"


def test_the_checksums_can_be_checked_with_the_standard_library(known: Any) -> None:
    """The recipe of docs/store.md, in its own words."""
    raw = (known.shards / "000002.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = raw[8 : 8 + length]
    table = json.loads(header)
    metadata = table.pop("__metadata__")
    blank = header.replace(metadata["header"].encode(), b"00000000", 1)
    assert f"{zlib.crc32(blank):08x}" == metadata["header"]
    for site, crc in json.loads(metadata["crc32"]).items():
        first, last = table[site]["data_offsets"]
        assert f"{zlib.crc32(raw[8 + length + first : 8 + length + last]):08x}" == crc
    rows = (known.shards / "000002.parquet").read_bytes()
    assert (str(len(rows)), f"{zlib.crc32(rows):08x}") == (
        metadata["rows_bytes"],
        metadata["rows_crc32"],
    )


def test_tensors_begin_at_a_multiple_of_64_bytes() -> None:
    for site in ("a", "a" * 7, "é" * 30):
        head = encode({site: SiteSpec(4, torch.bfloat16)}, 3, {"key": "k"})
        assert len(head) % 64 == 0
        assert decode(head[8:])[site]["shape"] == [3, 4]


def test_every_changed_header_byte_is_noticed() -> None:
    head = encode({"a": SiteSpec(4, torch.float32)}, 3, {"key": "k"})[8:]
    for place in range(len(head)):
        for bit in (1, 32):
            changed = bytearray(head)
            changed[place] ^= bit
            with pytest.raises(ValueError, match="header"):
                decode(bytes(changed))


def test_checksum_is_crc_32() -> None:
    assert checksum(b"123456789") == "cbf43926"
