"""Training of a TopK SAE: tokens a second against SAELens' trainer, our dense step, and the floor.

    python benchmarks/sae_training.py [--saelens PYTHON_WITH_SAE_LENS] [--quick]

d = 384, 6,144 latents, k = 32, batch 4,096, float32. The floor is what no exact method can avoid:
one product with the encoder and one top-k. All are measured in one run, ours before and after the
peer. Further: several SAEs together against one after the other, batches from a store against
batches from memory, and the memory a process takes against the estimate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _common import save

from layerscope.analyses.sae.architectures.architecture import Architecture
from layerscope.analyses.sae.architectures.topk import TopK
from layerscope.analyses.sae.fitting.asking import plan_for
from layerscope.analyses.sae.fitting.loop import Training
from layerscope.analyses.sae.rows.open import rows_of
from layerscope.analyses.sae.rows.source import Rows
from layerscope.store import Store

PEER = Path(__file__).parent / "_sae_peer_saelens.py"
SITE = "blocks.0.resid_post"


class Shape:
    """What is trained, smaller with --quick."""

    def __init__(self, quick: bool) -> None:
        self.d, self.latents, self.k, self.batch = (
            (64, 512, 8, 512) if quick else (384, 6144, 32, 4096)
        )
        self.steps = 4 if quick else 12


def planted(shape: Shape, batches: int = 8) -> torch.Tensor:
    """Rows with directions to find, [rows, d]."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2 * shape.d, shape.d, generator=generator) / shape.d**0.5
    rows = []
    for _ in range(batches):
        fires = torch.rand(shape.batch, 2 * shape.d, generator=generator) < 16 / shape.d
        rows.append(fires.float() @ directions)
    whole = torch.cat(rows)
    return whole + 0.05 * torch.randn(whole.shape, generator=generator)


def training(rows: Rows, shape: Shape, architecture: Architecture, seeds: int = 1) -> Training:
    """Ready for its first step."""
    sites = [(rows.sites[0],)]
    plan = plan_for(
        rows,
        sites,
        sites,
        architecture=architecture,
        k=None,
        l1=None,
        width=shape.latents,
        tokens=1000 * shape.batch,
        batch=shape.batch,
        lr=None,
        seed=list(range(seeds)),
        dead_after=None,
        clip=1.0,
        scaling="scale",
        precision="float32",
    )
    return Training(plan, rows, None)


def seconds(run: Any, steps: int, warmup: int = 2) -> list[float]:
    """Of each call of `run`, after some that do not count."""
    times = []
    for number in range(steps + warmup):
        start = time.perf_counter()
        run(number)
        times.append(time.perf_counter() - start)
    return times[warmup:]


def floor(rows: torch.Tensor, shape: Shape) -> list[float]:
    """The encoder's product and the top-k of one batch."""
    encoder = torch.randn(shape.latents, shape.d)
    bias = torch.zeros(shape.latents)
    out = torch.empty(shape.batch, shape.latents)
    batches = rows.split(shape.batch)

    def run(number: int) -> None:
        torch.addmm(bias, batches[number % len(batches)], encoder.T, out=out)
        out.topk(shape.k, dim=-1)

    return seconds(run, shape.steps)


def peer(python: str, shape: Shape, threads: int) -> dict[str, Any]:
    """What the other trainer prints."""
    command = [python, str(PEER), "--width", str(shape.d), "--latents", str(shape.latents)]
    command += ["--k", str(shape.k), "--batch", str(shape.batch), "--threads", str(threads)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout[ran.stdout.index("{") :])
    return found


def stored(rows: torch.Tensor, folder: Path) -> Store:
    """The same rows in a store of several shards."""
    import pandas as pd

    sites = {SITE: rows.shape[1]}
    store = Store.create(folder, {"rows": "planted"}, sites=sites, dtype=rows.dtype, about={})
    parts = rows.split(5000)
    for number, part in enumerate(parts):
        texts = pd.DataFrame({"text": [number] * len(part)})
        store.write(number, {SITE: part}, texts)
    store.finish(len(parts))
    return Store.open(folder)


def reading(rows: torch.Tensor, shape: Shape) -> dict[str, float]:
    """Steps on batches from a store and from memory, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        store = stored(rows, Path(folder) / "store")
        with rows_of(store, SITE) as read, rows_of(rows) as held:
            both = {
                "store": training(read, shape, TopK(k=(shape.k,))),
                "memory": training(held, shape, TopK(k=(shape.k,))),
            }
            times: dict[str, list[float]] = {"store": [], "memory": []}
            for number in range(2 + shape.steps):
                for name, run in both.items():
                    start = time.perf_counter()
                    run._step(number)
                    times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found[2:]) for name, found in times.items()}


TAKEN = """
import json, sys, torch
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import sae_training as bench
from layerscope.analyses.sae.fitting import memory
def highest():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
def train(shape):
    rows = bench.rows_of(torch.randn(2 * shape.batch, shape.d))
    run = bench.training(rows, shape, bench.TopK(k=(shape.k,)))
    for number in range(3):
        run._step(number)
    return run.plan
train(bench.Shape(True))
before = highest()
plan = train(bench.Shape(bool(int(sys.argv[2]))))
said = memory.of_plan(plan, torch.device("cpu")).peak
print(json.dumps({"taken": highest() - before, "estimated": said}))
"""


def memory_taken(quick: bool) -> dict[str, Any]:
    """Bytes that a process takes at its highest, and what was said before."""
    command = [sys.executable, "-c", TAKEN, str(Path(__file__).parent), str(int(quick))]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found | {"ratio": round(found["estimated"] / found["taken"], 3)}


def together(rows: torch.Tensor, shape: Shape) -> dict[str, float]:
    """A step of three SAEs at once, and three steps of one each."""
    ks = (shape.k // 2, shape.k, 2 * shape.k)
    group = training(rows_of(rows), shape, TopK(k=ks))
    alone = [training(rows_of(rows), shape, TopK(k=(k,))) for k in ks]
    at_once, in_turn = [], []
    for number in range(2 + shape.steps // 2):
        start = time.perf_counter()
        group._step(number)
        middle = time.perf_counter()
        for one in alone:
            one._step(number)
        at_once.append(middle - start)
        in_turn.append(time.perf_counter() - middle)
    return {
        "three_at_once": statistics.median(at_once[2:]),
        "three_in_turn": statistics.median(in_turn[2:]),
    }


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--saelens", help="interpreter that has sae_lens")
    asked.add_argument("--quick", action="store_true")
    options = asked.parse_args()
    shape = Shape(options.quick)
    rows = planted(shape)
    sparse = training(rows_of(rows), shape, TopK(k=(shape.k,), sparse=True))
    dense = training(rows_of(rows), shape, TopK(k=(shape.k,), sparse=False))

    ours = seconds(sparse._step, shape.steps)
    slow = seconds(dense._step, max(4, shape.steps // 2))
    least = floor(rows, shape)
    theirs = peer(options.saelens, shape, torch.get_num_threads()) if options.saelens else None
    ours += seconds(sparse._step, shape.steps)
    least += floor(rows, shape)

    step, bound = statistics.median(ours), statistics.median(least)
    figures: dict[str, Any] = {
        "shape": vars(shape),
        "tokens_per_second": round(shape.batch / step),
        "step_seconds": {
            "sparse": step,
            "dense": statistics.median(slow),
            "floor": bound,
        },
        "share_of_floor": round(bound / step, 3),
        "times_dense": round(statistics.median(slow) / step, 2),
        "together": together(rows, shape),
        "reading": reading(rows, shape),
        "memory": memory_taken(options.quick),
    }
    grouped, read = figures["together"], figures["reading"]
    figures["times_in_turn"] = round(grouped["three_in_turn"] / grouped["three_at_once"], 2)
    figures["store_over_memory"] = round(read["store"] / read["memory"], 3)
    if theirs is not None:
        figures["saelens"] = theirs
        figures["times_saelens"] = {
            name: round(shape.batch / step / found["tokens_per_s"], 2)
            for name, found in theirs["settings"].items()
            if "tokens_per_s" in found
        }
    print(json.dumps({k: v for k, v in figures.items() if k != "saelens"}, indent=1))
    if not options.quick:
        save("sae_training", figures)


if __name__ == "__main__":
    main()
