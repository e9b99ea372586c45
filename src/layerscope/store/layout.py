"""The header of one shard: a safetensors header that also carries checksums.

docs/store.md gives the bytes. The safetensors package reads these files; we write them ourselves
because its writer wants every tensor in memory as one block of bytes before the first is written.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}
"""What a store may hold, by its safetensors name."""
NAMED = {name: dtype for dtype, name in DTYPES.items()}

ALIGNMENT = 64
_UNSET = b'"header":"00000000"'
_SET = re.compile(rb'"header":"([0-9a-f]{8})"')


@dataclass(frozen=True)
class SiteSpec:
    """What the store holds of one site."""

    width: int
    dtype: torch.dtype

    @property
    def row_bytes(self) -> int:
        return self.width * self.dtype.itemsize


def checksum(data: bytes | memoryview) -> str:
    """CRC-32 in 8 hex digits: finds every error burst up to 32 bits; not a defence against intent."""
    return f"{zlib.crc32(data):08x}"


def encode(sites: Mapping[str, SiteSpec], rows: int, metadata: Mapping[str, str]) -> bytes:
    """Length and header; the tensors follow in the order of `sites`, `rows` rows each."""
    table: dict[str, Any] = {"__metadata__": {"header": "00000000", **metadata}}
    offset = 0
    for name, spec in sites.items():
        end = offset + rows * spec.row_bytes
        table[name] = {
            "dtype": DTYPES[spec.dtype],
            "shape": [rows, spec.width],
            "data_offsets": [offset, end],
        }
        offset = end
    body = json.dumps(table, separators=(",", ":")).encode()
    body += b" " * (-(8 + len(body)) % ALIGNMENT)
    body = body.replace(_UNSET, f'"header":"{checksum(body)}"'.encode(), 1)
    return len(body).to_bytes(8, "little") + body


def decode(body: bytes) -> dict[str, Any]:
    """The header as a dict, after its own checksum held.

    Raises:
        ValueError: not JSON, not ours, or altered.
    """
    found = _SET.search(body)
    if found is None:
        raise ValueError("its header carries no layerscope checksum")
    restored = body[: found.start()] + _UNSET + body[found.end() :]
    if checksum(restored) != found[1].decode():
        raise ValueError("its header is damaged (checksum differs)")
    table: dict[str, Any] = json.loads(body)
    return table
