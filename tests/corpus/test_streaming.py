"""Memory does not grow with the file: 50 MB are read in a few."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerscope.corpus import read

ROWS, BODY = 5_000, 11_000
LIMIT = 5_000_000
"""Bytes of Python objects while 55 MB are read; one text takes 11,000."""


def rows() -> Iterator[tuple[str, str]]:
    body = ("the quick, brown fox " * 600)[:BODY]
    return ((f"{number} {body}", "ab"[number % 2]) for number in range(ROWS))


@pytest.fixture(params=["txt", "csv", "jsonl"])
def big(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / f"big.{request.param}"
    with path.open("w") as file:
        file.write("text,kind\n" if request.param == "csv" else "")
        for text, kind in rows():
            line = {"txt": text, "csv": f'"{text}",{kind}'}
            file.write(line.get(request.param) or json.dumps({"text": text, "kind": kind}))
            file.write("\n")
    yield path
    path.unlink()


def test_a_large_file_is_read_in_little_memory(big: Path) -> None:
    assert big.stat().st_size > 50_000_000
    read(["warm up"]).survey  # noqa: B018
    tracemalloc.start()
    try:
        assert len(read(big)) == ROWS
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LIMIT


MEASURE = """
import resource, sys
from layerscope.corpus import read
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 if sys.platform != "darwin" else 1024)
len(read(sys.argv[1]))
before = peak()
print(len(read(sys.argv[2])), peak() - before)
"""


def test_a_large_parquet_file_is_read_in_little_memory(tmp_path: Path) -> None:
    """One row group that does not compress; Arrow's memory is not Python's, so ask the system."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chance = random.Random(0)
    for name, count in (("small", 50), ("big", ROWS)):
        texts = [chance.randbytes(BODY // 2).hex() for _ in range(count)]
        pq.write_table(pa.table({"text": texts}), tmp_path / f"{name}.parquet")
    paths = [str(tmp_path / f"{name}.parquet") for name in ("small", "big")]
    assert (tmp_path / "big.parquet").stat().st_size > 50_000_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True
    )
    count, kilobytes = map(int, done.stdout.split())
    assert count == ROWS
    assert kilobytes < 40_000
