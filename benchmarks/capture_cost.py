"""What listening costs: capture beside the bare forward pass and beside transformers' own flags.

A random GPT-2-shaped model (6 blocks, width 384, 6 heads; --quick: 3 blocks, width 64), one batch
of 8 x 128 tokens, float32. All ways are run in turn, round after round, so that a busy machine
slows them alike. The figures are ratios of the fastest round to the fastest bare forward pass: what
others do on the machine only ever adds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from _common import save
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.capture import StopForward, capture, watch

Way = Callable[[], Any]


def build(quick: bool, implementation: str = "sdpa") -> nn.Module:
    torch.manual_seed(0)
    layers, width, heads = (3, 64, 4) if quick else (6, 384, 6)
    config = GPT2Config(
        vocab_size=4096, n_positions=128, n_layer=layers, n_embd=width, n_head=heads
    )
    config._attn_implementation = implementation
    return GPT2LMHeadModel(config).eval()


def ways(quick: bool) -> dict[str, Way]:
    """Name -> one forward pass in that way."""
    model, eager = build(quick), build(quick, "eager")
    anatomy(model)
    ids = torch.randint(4096, (8, 128), generator=torch.Generator().manual_seed(0))

    def captured(sites: Any, **more: Any) -> Way:
        def run() -> None:
            with capture(model, sites, **more):
                model(ids)

        return run

    def watched() -> None:
        with watch(model, "all", lambda site, tensor: None):
            model(ids)

    def stopped() -> None:
        listening = watch(model, 0, lambda site, tensor: None, stop=True)
        with suppress(StopForward), listening:
            model(ids)

    return {
        "bare forward": lambda: model(ids),
        "watch all resid_post (no copy)": watched,
        "capture all resid_post": captured("all"),
        "output_hidden_states=True": lambda: model(ids, output_hidden_states=True),
        "capture every q k v z": captured([f"blocks.*.{part}" for part in "qkvz"]),
        "capture every pattern, model stays sdpa": captured("blocks.*.pattern"),
        "output_attentions=True, model is eager": lambda: eager(ids, output_attentions=True),
        "capture every site": captured(list(anatomy(model).sites)),
        "stop after block 0": stopped,
    }


def measure(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if number > 1:  # two rounds warm up
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer rounds")
    quick = parser.parse_args().quick
    runs = ways(quick)
    with torch.inference_mode():
        seconds = measure(runs, 10 if quick else 20)
    best = {name: min(times) for name, times in seconds.items()}
    ratios = {name: time / best["bare forward"] for name, time in best.items()}
    for name, ratio in ratios.items():
        print(f"{name:<42} {1e3 * best[name]:8.1f} ms   {ratio:5.2f} x bare")
    save(
        "capture_cost",
        {
            "quick": quick,
            "ratio_to_bare_forward": {name: round(ratio, 3) for name, ratio in ratios.items()},
            "best_ms": {name: round(1e3 * time, 2) for name, time in best.items()},
        },
    )


if __name__ == "__main__":
    main()
