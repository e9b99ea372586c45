"""Killed with SIGKILL at any moment, a store goes on and ends up byte for byte the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from layerscope.store import Store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    program = Path(__file__).with_name("fill_program.py")
    done = subprocess.run(
        [sys.executable, str(program), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def contents(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and "locks" not in path.parts
    }


def test_killed_twenty_times_and_resumed_is_byte_identical(ran: Path) -> None:
    assert contents(ran / "killed") == contents(ran / "unbroken")
    assert len(contents(ran / "killed")) == 25
    Store.open(ran / "killed").verify()


def test_several_processes_fill_one_store_and_compute_each_shard_once(ran: Path) -> None:
    assert contents(ran / "shared") == contents(ran / "unbroken")
    computed = [int(line) for line in (ran / "computed").read_text().split()]
    assert sorted(computed) == list(range(12))


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_killed_at_any_system_call_the_shard_is_absent_or_whole(ran: Path, call: str) -> None:
    steps = sorted(ran.glob(f"{call}[0-9]*"), key=lambda path: int(path.name[len(call) :]))
    assert len(steps) > {"write": 6, "fsync": 8, "replace": 4}[call]
    for folder in steps:
        store = Store.create(folder, {}, sites={"x": 32, "y": 64}, dtype=torch.float32, about={})
        store.verify()
        assert len(store) in (0, 3000)
        assert not list(folder.rglob("*.part")), "leftovers of the dead are removed"
        if not store.has(0):
            tensors = {"x": torch.zeros(3000, 32), "y": torch.zeros(3000, 64)}
            store.write(0, tensors, pd.DataFrame({"text": [0] * 3000}))
        store.finish(1)
        Store.open(folder).verify()
