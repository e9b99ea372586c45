"""Whatever happens to the files, reading or verifying says which file, what, and what to do."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from layerscope.store import CorruptShard, Store

REMEDY = r"Delete 000002.safetensors and 000002.parquet in .*shards and run extract again"


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(p): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.suffix != ".lock" and p.is_file()
    }


def reopen(known: Any) -> None:
    Store.open(known.store.path).verify()


@pytest.mark.parametrize("ending", ["safetensors", "parquet"])
def test_one_flipped_bit_anywhere_is_found(known: Any, ending: str) -> None:
    path = known.shards / f"000002.{ending}"
    size = path.stat().st_size
    for place in {*range(0, size, max(1, size // 150)), *range(9), size - 1}:
        flip(path, place)
        with pytest.raises(CorruptShard, match=rf"000002.{ending} .*{REMEDY}"):
            reopen(known)
        flip(path, place)
    reopen(known)


@pytest.mark.parametrize("ending", ["safetensors", "parquet"])
@pytest.mark.parametrize("left", [0, 5, 8, 100, -1])
def test_truncated_files_are_refused_when_opened(known: Any, ending: str, left: int) -> None:
    path = known.shards / f"000002.{ending}"
    path.write_bytes(path.read_bytes()[:left])
    before = snapshot(known.store.path)
    for use in (
        Store.open,
        lambda folder: Store.create(
            folder, known.store.parts, sites={"x": 1}, dtype=torch.float32, about={}
        ),
    ):
        with pytest.raises(
            CorruptShard, match=rf"000002.{ending} .*(truncated|bytes long).*{REMEDY}"
        ):
            use(known.store.path)
    assert snapshot(known.store.path) == before, "nothing may be overwritten"


@pytest.mark.parametrize("ending", ["safetensors", "parquet"])
def test_bytes_appended_are_refused_when_opened(known: Any, ending: str) -> None:
    with (known.shards / f"000002.{ending}").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CorruptShard, match=rf"000002.{ending} is .* bytes long"):
        Store.open(known.store.path)


def test_a_damaged_tensor_is_named_by_site(known: Any) -> None:
    flip(known.shards / "000002.safetensors", -1)
    with pytest.raises(CorruptShard, match=r"is damaged in blocks.0.mlp_act \(checksum differs\)"):
        reopen(known)


def test_rows_of_another_run_are_found(known: Any) -> None:
    """Same size, valid Parquet, other contents."""
    path = known.shards / "000002.parquet"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"the content of 4", b"the content of 5", 1))
    if path.read_bytes() == data:  # compressed: any valid file of the same size will do
        flip(path, len(data) // 2)
    with pytest.raises(CorruptShard, match=r"000002.parquet is damaged or of another run"):
        reopen(known)


def test_missing_rows_are_refused(known: Any) -> None:
    (known.shards / "000002.parquet").unlink()
    with pytest.raises(CorruptShard, match=rf"000002.parquet is missing beside.*{REMEDY}"):
        Store.open(known.store.path)


def test_a_missing_shard_of_a_finished_store_is_found_by_verify(known: Any) -> None:
    (known.shards / "000002.safetensors").unlink()
    with pytest.raises(CorruptShard, match=rf"000002.safetensors is missing.*{REMEDY}"):
        reopen(known)


def test_a_shard_of_another_store_is_refused(known: Any, make: Callable[..., Any]) -> None:
    other = make(dtype=torch.bfloat16, name="other")
    for ending in ("safetensors", "parquet"):
        shutil.copy(other.shards / f"000002.{ending}", known.shards)
    with pytest.raises(CorruptShard, match=rf"belongs to another store \(key {other.store.key}\)"):
        Store.open(known.store.path)


def test_a_shard_under_another_number_is_refused(known: Any) -> None:
    for ending in ("safetensors", "parquet"):
        shutil.copy(known.shards / f"000000.{ending}", known.shards / f"000002.{ending}")
    with pytest.raises(CorruptShard, match=r"000002.safetensors is shard 0 under another number"):
        Store.open(known.store.path)


def test_a_safetensors_file_of_someone_else_is_refused(known: Any) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, known.shards / "000004.safetensors")
    with pytest.raises(CorruptShard, match=r"000004.safetensors its header carries no layerscope"):
        Store.open(known.store.path)


def test_other_files_among_the_shards_are_named_by_verify(known: Any) -> None:
    (known.shards / ".DS_Store").write_text("")
    reopen(known)
    (known.shards / "000002 (copy).safetensors").write_text("")
    with pytest.raises(CorruptShard, match=r"\(copy\).safetensors is not part of this store; move"):
        reopen(known)


def test_the_remedy_works(known: Any) -> None:
    """Delete the pair, write the shard again: the store is as it was."""
    before = snapshot(known.store.path)
    flip(known.shards / "000000.safetensors", -1)
    for ending in ("safetensors", "parquet"):
        (known.shards / f"000000.{ending}").unlink()
    store = Store.open(known.store.path)
    assert not store.complete
    tensors = {site: truth[:5] for site, truth in known.truth.items()}
    store.write(0, tensors, known.frame[:5], {"truncated": 0})
    store.finish(4, ["a note"])
    reopen(known)
    assert snapshot(known.store.path) == before


# A full disk

SITES = {"a": 64}


def write_one(store: Store, index: int, rows: int = 4000) -> None:
    store.write(index, {"a": torch.ones(rows, 64)}, pd.DataFrame({"text": [index] * rows}))


@pytest.mark.parametrize("full_after", [0, 1, 2, 3])
def test_a_full_disk_names_the_shard_and_the_need_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_after: int
) -> None:
    store = Store.create(tmp_path / "s", {}, sites=SITES, dtype=torch.float32, about={})
    write_one(store, 0)
    before = snapshot(tmp_path)
    calls = iter(range(100))
    real = os.write

    def write(descriptor: int, data: Any) -> int:
        if next(calls) >= full_after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[: len(data) // 2 + 1])  # systems may take less than all

    monkeypatch.setattr("layerscope.store.disk.os.write", write)
    with pytest.raises(OSError, match=r"no space for 000001.*needs [\d.]+ MB, .* MB are free") as e:
        write_one(store, 1)
    assert e.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert snapshot(tmp_path) == before
    write_one(Store.open(tmp_path / "s"), 1)
    Store.open(tmp_path / "s").verify()


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A file system of 2 MB, where the system allows to make one."""
    made = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(tmp_path)],
            capture_output=True,
            check=False,
        )
        if shutil.which("mount")
        else None
    )
    if made is None or made.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        store = Store.create(tmp_path / "s", {}, sites=SITES, dtype=torch.float32, about={})
        write_one(store, 0)
        with pytest.raises(OSError, match=r"no space for 000001.safetensors: it needs 1.5 MB"):
            write_one(store, 1, rows=6000)
        assert not list(tmp_path.rglob("*.part"))
        assert not list(tmp_path.rglob("000001.p*"))
        Store.open(tmp_path / "s").verify()
        write_one(store, 1, rows=1000)
        store.finish(2)
        Store.open(tmp_path / "s").verify()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# An error, an interruption or a power cut at every step


class Interrupted(BaseException):
    """Like KeyboardInterrupt, but only ours."""


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize("kind", [OSError, Interrupted])
def test_failing_at_any_step_leaves_the_shard_absent_or_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, kind: type[BaseException]
) -> None:
    real = getattr(os, call)
    store = Store.create(tmp_path / "s", {}, sites=SITES, dtype=torch.float32, about={})
    steps = 0
    while True:
        remaining = iter(range(steps))

        def fail(*args: Any, remaining: Any = remaining) -> Any:
            if next(remaining, None) is None:
                raise kind("stopped here")
            return real(*args)

        monkeypatch.setattr(f"layerscope.store.disk.os.{call}", fail)
        with pytest.raises(kind, match="stopped here"):
            write_one(store, 0, rows=10)
        monkeypatch.undo()
        again = Store.open(tmp_path / "s")
        again.verify()
        assert not list(tmp_path.rglob("*.part"))
        if store.has(0):  # the last step only makes it durable
            assert len(again) == 10
            break
        assert len(again) == 0
        steps += 1
        if steps == {"write": 3, "fsync": 4, "replace": 2}[call]:
            break
