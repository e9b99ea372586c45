"""Killed at any moment and resumed, or filled by two processes: the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

SERVER = """
import os, sys, random
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from tokenizers import Tokenizer, models, pre_tokenizers
import layerscope.hooks.extracting.feeds as feeds
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.extract import extract

feeds.FEWEST_CHARACTERS = feeds.MOST_CHARACTERS = 400
torch.set_num_threads(1)
words = {f"w{i}": i for i in range(50)}
bare = Tokenizer(models.WordLevel(words, unk_token="w0"))
bare.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare)
chance = random.Random(0)
texts = [" ".join(f"w{chance.randrange(50)}" for _ in range(chance.randint(2, 40)))
         for _ in range(240)]

def work(folder):
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=50, n_positions=64)
    model = GPT2LMHeadModel(config).eval()
    extract(model, texts, "all", tokenizer=tokenizer, to=folder, progress=False)

for line in sys.stdin:  # one child for each folder: its pid, then how it ended
    pid = os.fork()
    if pid == 0:
        work(line.strip())
        os._exit(0)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Worker:
    """A process that forks a child for each extraction, so that imports are paid once."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )

    def begin(self, folder: Path) -> int:
        """Start an extraction into `folder`; its process id."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        return int(self._line())

    def status(self) -> int:
        """Wait for it to end; 0 is success."""
        return int(self._line())

    def close(self) -> None:
        self.process.communicate(timeout=60)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((folder / "shards").iterdir())
        if path.suffix in (".safetensors", ".parquet")
    }


@pytest.fixture(scope="module")
def unbroken(worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A store filled without a break, and the seconds that took."""
    folder = tmp_path_factory.mktemp("unbroken") / "store"
    worker.begin(folder)
    start = time.perf_counter()
    assert worker.status() == 0
    return folder, time.perf_counter() - start


def test_killed_at_twenty_random_moments_then_resumed_gives_the_same_bytes(
    tmp_path: Path, worker: Worker, unbroken: tuple[Path, float]
) -> None:
    whole, seconds = unbroken
    chance = random.Random(1)
    folder = tmp_path / "store"
    killed, finished = 0, []
    for moment in range(20):
        pid = worker.begin(folder)
        # Each life may last a little longer, so that the first ones do not finish the work.
        time.sleep(chance.random() * seconds * (moment + 1) / 12)
        with suppress(ProcessLookupError):  # it may have finished
            os.kill(pid, signal.SIGKILL)
        killed += worker.status() != 0
        finished.append(len(list(folder.glob("shards/*.safetensors"))))
    assert killed >= 10
    assert finished == sorted(finished)
    worker.begin(folder)
    assert worker.status() == 0
    assert bytes_of(folder) == bytes_of(whole)


def test_two_processes_fill_one_store(
    tmp_path: Path, worker: Worker, unbroken: tuple[Path, float]
) -> None:
    whole, _ = unbroken
    folder = tmp_path / "store"
    other = Worker()
    worker.begin(folder)
    other.begin(folder)
    assert worker.status() == other.status() == 0
    other.close()
    assert bytes_of(folder) == bytes_of(whole)
