"""All pairs of back-patching: the engine beside a loop of forward hooks over whole passes.

A random Llama of 16 blocks of width 256 (--quick: 4 of 64), prompts of 20 tokens: each of the 120
pairs (source > target) is tried at the last token, and the next-token logits are kept. The loop
records the sources in one pass and then runs one whole pass for each pair; the prompts of a loop are
a batch, as those of the engine are. All ways are run in turn, round after round; ratios are of the
fastest rounds, since other work on the machine only ever adds. nnsight runs the loop where it is
installed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from _common import save
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.edits import set_to
from layerscope.hooks.replay import record

TOKENS, VOCAB, PROMPTS = 20, 4096, (1, 16)
Way = Callable[[], Tensor]


def build(quick: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    blocks, width = (4, 64) if quick else (16, 256)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config).eval()


def pairs_of(model: LlamaForCausalLM) -> list[tuple[int, int]]:
    blocks = len(model.model.layers)
    return [(s, t) for t in range(blocks) for s in range(t + 1, blocks)]


def engine(model: LlamaForCausalLM, ids: Tensor) -> Way:
    """One recorded pass, continued from every block with all its sources side by side."""
    blocks = len(model.model.layers)

    def run() -> Tensor:
        recorded = record(model, ids)
        states = recorded.residuals[1:, :, -1:]
        changes = [
            {f"blocks.{t}.resid_post": set_to(states[t + 1 :].flatten(0, 1), at=-1)}
            for t in range(blocks - 1)
        ]
        of = [torch.arange(len(ids)).repeat(blocks - 1 - t) for t in range(blocks - 1)]
        return recorded.lanes(changes, of=of, last=1).logits.view(-1, len(ids), VOCAB)

    return run


def hooks(model: LlamaForCausalLM, ids: Tensor) -> Way:
    """What is written by hand today."""
    layers = model.model.layers

    def run() -> Tensor:
        states: list[Tensor] = []
        handles = [b.register_forward_hook(lambda _, __, y: states.append(y)) for b in layers]
        model(ids, use_cache=False)
        for handle in handles:
            handle.remove()
        found = []
        for source, target in pairs_of(model):
            handle = layers[target].register_forward_hook(_putting(states[source][:, -1]))
            output = model(ids, use_cache=False, logits_to_keep=1)
            handle.remove()
            found.append(output.logits[:, -1])
        return torch.stack(found)

    return run


def _putting(state: Tensor) -> Callable[..., Tensor]:
    def put(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, -1] = state
        return output

    return put


def with_nnsight(model: LlamaForCausalLM, ids: Tensor) -> Way:
    """The same loop in nnsight's words."""
    import nnsight

    wrapped = nnsight.NNsight(model)
    layers = wrapped.model.layers

    def run() -> Tensor:
        with wrapped.trace(ids):
            states = nnsight.save([layer.output[:, -1].clone() for layer in layers])
        found = []
        for source, target in pairs_of(model):
            with wrapped.trace(ids):
                layers[target].output[:, -1] = states[source]
                logits = wrapped.lm_head.output[:, -1].save()
            found.append(logits)
        return torch.stack(found)

    return run


def measure(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Seconds of the fastest round of each way; the first round warms up and is compared."""
    wanted = ways["engine"]()
    for name, run in ways.items():
        torch.testing.assert_close(run(), wanted, rtol=0, atol=1e-4, msg=f"{name} differs")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer rounds")
    quick = parser.parse_args().quick
    model = build(quick)
    anatomy(model)
    figures: dict[str, Any] = {"quick": quick, "pairs": len(pairs_of(model)), "tokens": TOKENS}
    for prompts in PROMPTS:
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(VOCAB, (prompts, TOKENS), generator=generator)
        ways = {"engine": engine(model, ids), "loop of hooks": hooks(model, ids)}
        if find_spec("nnsight"):
            ways["nnsight"] = with_nnsight(model, ids)
        with torch.inference_mode():
            best = measure(ways, 2 if quick else 7)
        ratios = {name: best[name] / best["engine"] for name in ways if name != "engine"}
        for name, ratio in ratios.items():
            print(f"{prompts:3} prompts: {name} takes {ratio:.1f} x the engine's time")
        figures[f"{prompts} prompts"] = {
            "times_engine": {name: round(ratio, 2) for name, ratio in ratios.items()},
            "best_ms": {name: round(1e3 * time, 1) for name, time in best.items()},
        }
    save("back_patching", figures)


if __name__ == "__main__":
    main()
