"""Fills stores in child processes that are killed; run by test_killed.py, which reads the files.

One process imports everything once and forks a child per attempt, so that a kill costs
milliseconds. Usage: ``fill_program.py FOLDER``.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from layerscope.store import Store

SHARDS, ROWS = 12, 3000


def fill(folder: Path, computed: Path | None = None) -> None:
    """What extract does with a store: claim, compute, write, finish."""
    store = Store.create(folder, {"a": 1}, sites={"x": 32, "y": 64}, dtype=torch.float32, about={})
    for index in range(SHARDS):
        with store.claim(index) as mine:
            if mine:
                if computed is not None:
                    with computed.open("a") as log:
                        log.write(f"{index}\n")
                store.write(index, *shard(index), {"rows": ROWS})
    if all(store.has(index) for index in range(SHARDS)):
        store.finish(SHARDS, ["filled"])


def shard(index: int) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    random = torch.Generator().manual_seed(index)
    tensors = {
        "x": torch.rand(ROWS, 32, generator=random),
        "y": torch.rand(ROWS, 64, generator=random),
    }
    words = [f"w{i % 97}" for i in range(ROWS)]
    return tensors, pd.DataFrame({"text": [index] * ROWS, "token": words})


def child(work: Callable[[], None]) -> int:
    process = os.fork()
    if process == 0:
        work()
        os._exit(0)
    return process


def killed_at_random(folder: Path) -> None:
    """Twenty kills after random delays; each child goes on where the last one died."""
    delays = random.Random(0)
    for _ in range(20):
        process = child(lambda: fill(folder))
        time.sleep(delays.uniform(0.001, 0.03))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def killed_at_step(folder: Path, call: str, step: int) -> bool:
    """A child that kills itself instead of its n-th system call; False once it gets through."""

    def work() -> None:
        real, left = getattr(os, call), iter(range(step))

        def die(*args: Any) -> Any:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args)

        setattr(os, call, die)
        store = Store.create(folder, {}, sites={"x": 32, "y": 64}, dtype=torch.float32, about={})
        store.write(0, *shard(0))
        store.finish(1)

    return os.waitpid(child(work), 0)[1] != 0


def main(folder: Path) -> None:
    fill(folder / "unbroken")
    killed_at_random(folder / "killed")
    (folder / "after_kills").write_text(str(len(list((folder / "killed").rglob("*.safetensors")))))
    fill(folder / "killed")
    for call in ("write", "fsync", "replace"):
        step = 0
        while killed_at_step(folder / f"{call}{step}", call, step):
            step += 1
    together = [child(lambda: fill(folder / "shared", folder / "computed")) for _ in range(3)]
    codes = [os.waitpid(process, 0)[1] for process in together]
    assert not any(codes), codes


if __name__ == "__main__":
    main(Path(sys.argv[1]))
