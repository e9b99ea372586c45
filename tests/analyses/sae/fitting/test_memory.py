"""The estimate of memory against what a process really takes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from layerscope.analyses.sae.fitting.asking import plan_for
from layerscope.analyses.sae.fitting.memory import estimate, free, of_plan
from layerscope.analyses.sae.rows.open import rows_of
from layerscope.store.disk import megabytes

REST: dict[str, Any] = {
    "l1": None,
    "lr": None,
    "seed": 0,
    "dead_after": None,
    "clip": 1.0,
    "scaling": "scale",
    "precision": "float32",
}

SCRIPT = """
import json, sys, torch
from pathlib import Path
from tempfile import TemporaryDirectory
from layerscope.analyses.sae.architectures.catalogue import by_name
from layerscope.analyses.sae.fitting import memory
from layerscope.analyses.sae.fitting.asking import plan_for
from layerscope.analyses.sae.fitting.loop import Training
from layerscope.analyses.sae.rows.open import rows_of

def highest():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

def training(width, batch):
    rows = rows_of(torch.randn(2 * batch, 256))
    plan = plan_for(rows, [rows.sites], [rows.sites], architecture=by_name(NAME, **OPTIONS),
        k=None, l1=None, width=width, tokens=2 * batch, batch=batch, lr=None, seed=0,
        dead_after=None, clip=1.0, scaling="scale", precision="float32")
    with TemporaryDirectory() as folder:
        run = Training(plan, rows, Path(folder))
        for number in range(2):
            run._step(number)
        run._checkpoint(2)
    return plan, rows

training(64, 64)  # what torch loads once
before = highest()
said = memory.of_plan(*training(WIDTH, BATCH)).peak
print(json.dumps({"taken": highest() - before, "said": said}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("name", "options", "width", "batch"),
    [
        ("topk", {"k": (32,)}, 8192, 8192),
        ("topk", {"k": (32,), "sparse": False}, 8192, 2048),
        ("relu", {}, 8192, 2048),
        ("batchtopk", {"k": (32,), "sparse": False}, 8192, 2048),
        ("matryoshka", {"k": (32,), "sparse": False}, 8192, 2048),
    ],
)
def test_the_peak_is_within_a_fifth_of_the_estimate(name, options, width, batch) -> None:
    settings = f"NAME, OPTIONS, WIDTH, BATCH = {name!r}, {options!r}, {width}, {batch}\n"
    ran = subprocess.run(
        [sys.executable, "-c", settings + SCRIPT], capture_output=True, text=True, check=True
    )
    found = json.loads(ran.stdout)
    assert 0.8 < found["said"] / found["taken"] < 1.2, found


WHOLE = """
import json, sys, torch
from pathlib import Path
from layerscope.analyses import sae
from layerscope.analyses.sae.fitting import memory

said = []
of_plan = memory.of_plan
memory.of_plan = lambda plan, rows: said.append(of_plan(plan, rows)) or said[-1]

def highest():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

def training(width, folder):
    rows = torch.randn(1024, 256)
    sae.train(rows, width=width, k=8, batch=512, tokens=1024, to=folder, progress=False)

training(64, sys.argv[1] + "/small")
before = highest()
training(24_576, sys.argv[1] + "/wide")
print(json.dumps({"taken": highest() - before, "said": said[-1].peak}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_export_and_saving_take_no_more_than_the_steps(tmp_path: Path) -> None:
    # Many latents and few rows: what does not hang on the batch decides.
    command = [sys.executable, "-c", WHOLE, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)
    assert 0.8 < found["said"] / found["taken"] < 1.2, found


def test_the_worked_example() -> None:
    # 2,304 x 65,536, batch 4,096, sparse: parameters 302 M, pre-activations 1.07 GB.
    found = estimate(
        group=1, latents=65_536, d_in=2304, d_out=2304, batch=4096, k=64, copies=(1, 1)
    )
    assert found.weights == pytest.approx(4 * 302e6, rel=0.01)
    assert found.moments == 2 * found.weights
    assert found.latents == 4 * 4096 * 65_536
    parts = (found.weights, found.moments, found.gradients, found.backward)
    assert found.peak == sum(parts) + found.rows + found.selected
    assert str(found).startswith(f"{found.peak / 1e6:,.1f} MB at the peak (weights 1,")


def test_more_of_anything_takes_more() -> None:
    base = {"group": 1, "latents": 64, "d_in": 8, "d_out": 8, "batch": 32, "k": 4}
    least = estimate(copies=(1, 1), **base).peak
    for name, size in base.items():
        assert estimate(copies=(1, 1), **(base | {name: 2 * size})).peak > least


def test_the_reservoir_of_a_running_model_counts() -> None:
    model, data = torch.nn.Sequential(torch.nn.Linear(4, 6)), torch.randn(100, 4)
    with rows_of(model, ["0"], corpus=data, reservoir_rows=50) as rows:
        assert rows.reserved == 50 * 6 * 4
        one = [rows.sites]
        plan = plan_for(
            rows, one, one, architecture="topk", k=2, width=8, batch=10, tokens=20, **REST
        )
        found = of_plan(plan, rows)
        assert sum(held.nbytes for held in rows._empty()._rows) == found.reservoir
    assert found.peak == replace(found, reservoir=0).peak + rows.reserved
    assert f"reservoir {megabytes(rows.reserved)}" in str(found)
    assert "reservoir" not in str(replace(found, reservoir=0))


def test_free_memory_is_known_here() -> None:
    there = free(torch.device("cpu"))
    assert there is None or there > 1e6
