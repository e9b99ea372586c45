"""Skipping each block once: all effects in one pass, beside a loop of whole passes with hooks.

A random Llama of 12 blocks of width 256 (--quick: 4 of 64), one text of 64 tokens, then four. For every skipped
block: the relative change of what each later block adds, distance and divergence of the next-token
probabilities, and the change of the loss. The loop does what is written by hand today: one whole pass
per block, with hooks that skip it and note the contributions of all blocks; it stops nowhere early,
and compares as it goes. Both ways give the same numbers, which is checked. They are run in turn,
round after round; the ratio is of the fastest rounds, since other work on the machine only ever adds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from _common import save
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from layerscope.analyses.skipping.skip_effects import Later, Output
from layerscope.analyses.skipping.skip_lanes import all_lanes, run_lanes
from layerscope.hooks.unembed import Unembed

TEXTS, TOKENS, VOCAB = (1, 4), 64, 4096
Effects = dict[str, Tensor]
Way = Callable[[], Effects]


def build(quick: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    blocks, width = (4, 64) if quick else (12, 256)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
    )
    return LlamaForCausalLM(config).eval()


def engine(model: LlamaForCausalLM, ids: Tensor) -> Way:
    """All skips as rows of one pass."""
    blocks = len(model.model.layers)
    wanted = all_lanes(blocks, TOKENS, 1, [])
    decode = Unembed(model)
    tokens = len(ids) * (TOKENS - 1)

    def run() -> Effects:
        later = Later(wanted, blocks, ids, own=True)
        streams = run_lanes(model, ids, wanted, "skip", "block", later)
        found = Output(decode, streams.base, ids).of(streams.lanes, wanted)
        engine.evaluations = streams.evaluations / len(ids)  # type: ignore[attr-defined]
        return {
            "later": later.sums.sum(-1).triu() / tokens,
            "output": found["output"][0].sum(-1) / tokens,
            "divergence": found["divergence"][0].sum(-1) / tokens,
            "loss": found["loss"][0].sum(-1) / (tokens - len(ids)),
        }

    return run


def hooks(model: LlamaForCausalLM, ids: Tensor) -> Way:
    """A whole pass for each skipped block."""
    layers = model.model.layers

    def once(skip: int | None) -> tuple[list[Tensor], Tensor]:
        added: list[Tensor] = []

        def leave(number: int) -> Callable[..., Tensor | None]:
            def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
                if number == skip:
                    output = torch.cat([output[:, :1], args[0][:, 1:]], 1)
                added.append(output - args[0])
                return output if number == skip else None

            return hook

        with ExitStack() as stack:
            for number, layer in enumerate(layers):
                stack.callback(layer.register_forward_hook(leave(number)).remove)
            logits = model(ids, use_cache=False).logits
        return added, logits.log_softmax(-1)

    def run() -> Effects:
        base, p = once(None)
        probabilities = p.exp()
        sizes = [x.norm(dim=-1).clamp_min(1e-6) for x in base]
        later = torch.zeros(len(layers), len(layers), dtype=torch.float64)
        output, divergence, loss = [], [], []
        for s in range(len(layers)):
            added, q = once(s)
            for n in range(s, len(layers)):
                later[s, n] = ((base[n] - added[n]).norm(dim=-1) / sizes[n])[:, 1:].mean()
            output.append((probabilities - q.exp()).norm(dim=-1)[:, 1:].mean())
            divergence.append((probabilities * (p - q)).sum(-1)[:, 1:].mean())
            told = (p - q)[:, 1:-1].gather(-1, ids[:, 2:, None])
            loss.append(told.mean())
        curves = {"output": output, "divergence": divergence, "loss": loss}
        return {"later": later, **{name: torch.stack(x) for name, x in curves.items()}}

    return run


def measure(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Seconds of the fastest round of each way; the first round warms up and is compared."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        found = {}
        for name, run in ways.items():
            start = time.perf_counter()
            found[name] = run()
            if number:
                seconds[name].append(time.perf_counter() - start)
        if not number:
            ours, theirs = found.values()
            for effect, values in ours.items():
                close = {"check_dtype": False, "atol": 1e-5, "rtol": 1e-4}
                torch.testing.assert_close(values, theirs[effect], **close)
    return {name: min(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer rounds")
    quick = parser.parse_args().quick
    model = build(quick)
    blocks = len(model.model.layers)
    expected = blocks + blocks * (blocks - 1) / 2
    found = {}
    for texts in TEXTS:
        ids = torch.randint(VOCAB, (texts, TOKENS), generator=torch.Generator().manual_seed(0))
        ways = {"one pass": engine(model, ids), "loop of hooks": hooks(model, ids)}
        with torch.inference_mode():
            best = measure(ways, 3 if quick else 7)
        evaluations = {
            "one pass": engine.evaluations,  # type: ignore[attr-defined]
            "loop of hooks": blocks * (blocks + 1),
        }
        ratio = best["loop of hooks"] / best["one pass"]
        print(f"{texts} texts of {TOKENS} tokens")
        for name, seconds in best.items():
            print(
                f"  {name:<16} {1e3 * seconds:8.1f} ms {evaluations[name]:6.0f} evaluations a text"
            )
        print(f"  one pass is {ratio:.2f} times as fast; L + L(L-1)/2 = {expected:.0f}")
        found[f"{texts} texts"] = {
            "layer_evaluations_per_text": evaluations,
            "best_ms": {name: round(1e3 * seconds, 2) for name, seconds in best.items()},
            "times_as_fast_as_hooks": round(ratio, 3),
        }
    save(
        "layer_skip",
        {"quick": quick, "blocks": blocks, "expected_layer_evaluations": expected, **found},
    )


if __name__ == "__main__":
    main()
