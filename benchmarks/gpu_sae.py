"""On CUDA: tokens a second of SAE training, its share of the encoder's product, and peak memory.

    python benchmarks/gpu_sae.py [--quick]

Five shapes (width x latents, k), batches of 4,096, 16,384 and 65,536, dense, compiled dense (by
torch.compile) and sparse products, float32 and bfloat16. The bound is the encoder's product alone, measured at the same shape
and precision; no exact step can be faster. `switch` says from how many latents per active one the
sparse products won, to be compared with `architectures.sparse.PAYS`. Without a GPU the same code
runs on one small shape, so that it cannot rot; only CUDA figures are saved.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from _common import save

from layerscope.analyses.sae.architectures.topk import TopK
from layerscope.analyses.sae.fitting import memory
from layerscope.analyses.sae.fitting.asking import plan_for
from layerscope.analyses.sae.fitting.loop import Training
from layerscope.analyses.sae.rows.open import rows_of

SHAPES = (
    (768, 12_288, 32),
    (768, 24_576, 32),
    (2304, 16_384, 64),
    (2304, 65_536, 64),
    (4096, 131_072, 64),
)
BATCHES = (4096, 16_384, 65_536)
STEPS, UNMEASURED = 10, 3


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--quick", action="store_true", help="one shape, one batch")
    options = asked.parse_args()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    shapes = SHAPES if cuda else ((64, 1024, 8),)
    batches = BATCHES if cuda else (512,)
    if options.quick:
        shapes, batches = shapes[:1], batches[:1]
    lines = list(_lines(shapes, batches, device))
    for line in lines:
        print(json.dumps(line))
    if cuda and not options.quick:
        save("gpu_sae", {"lines": lines, "switch": _switch(lines)})


def _lines(shapes: Any, batches: Any, device: torch.device) -> Iterator[dict[str, Any]]:
    for (d, latents, k), batch in product(shapes, batches):
        for precision, how in product(("float32", "bfloat16"), ("dense", "compiled", "sparse")):
            line = {"d": d, "latents": latents, "k": k, "batch": batch}
            line |= {"precision": precision, "how": how}
            try:
                line |= _measured(d, latents, k, batch, precision, how, device)
            except torch.cuda.OutOfMemoryError:
                line["error"] = "out of memory"
            if device.type == "cuda":
                torch.cuda.empty_cache()
            yield line


def _measured(
    d: int, latents: int, k: int, batch: int, precision: str, how: str, device: torch.device
) -> dict[str, Any]:
    rows = rows_of(torch.randn(2 * batch, d), device=device)
    sites = [(rows.sites[0],)]
    plan = plan_for(
        rows,
        sites,
        sites,
        architecture=TopK(k=(k,), sparse=how == "sparse"),
        k=None,
        l1=None,
        width=latents,
        tokens=1000 * batch,
        batch=batch,
        lr=None,
        seed=0,
        dead_after=None,
        clip=1.0,
        scaling="scale",
        precision=precision,
    )
    run = Training(plan, rows, None)
    if how == "compiled":
        loss = torch.compile(plan.architecture.loss)
        object.__setattr__(plan.architecture, "loss", loss)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step = _seconds(run._step, device)
    taken = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    said = memory.of_plan(plan, device).peak
    bound = _seconds(_encoder(d, latents, batch, precision, device), device)
    return {
        "tokens_per_second": round(batch / step),
        "share_of_encoder_product": round(bound / step, 3),
        "bytes_taken": taken,
        "bytes_estimated": said,
    }


def _encoder(
    d: int, latents: int, batch: int, precision: str, device: torch.device
) -> Callable[[int], object]:
    """The encoder's product alone."""
    dtype = getattr(torch, precision)
    x = torch.randn(batch, d, device=device, dtype=dtype)
    weights = torch.randn(latents, d, device=device, dtype=dtype)
    return lambda _: x @ weights.T


def _seconds(run: Callable[[int], object], device: torch.device) -> float:
    times = []
    for number in range(UNMEASURED + STEPS):
        _wait(device)
        start = time.perf_counter()
        run(number)
        _wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[UNMEASURED:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _switch(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where sparse and dense were both measured: latents per active one, and who won by how much."""
    keys = ("d", "latents", "k", "batch", "precision")
    speeds = {
        (*(line[key] for key in keys), line["how"]): line["tokens_per_second"]
        for line in lines
        if "tokens_per_second" in line
    }
    return [
        {
            **dict(zip(keys, case, strict=True)),
            "ratio": case[1] / case[2],
            "times": round(sparse, 2),
        }
        for case in sorted({key[:-1] for key in speeds})
        if (*case, "sparse") in speeds and (*case, "dense") in speeds
        for sparse in (speeds[(*case, "sparse")] / speeds[(*case, "dense")],)
    ]


if __name__ == "__main__":
    main()
