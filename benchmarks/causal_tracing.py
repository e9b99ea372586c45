"""A causal-tracing map: the engine beside a loop of whole passes with forward hooks.

A random Llama (12 blocks, width 256; --quick: 4 blocks, width 64), one prompt of 20 tokens (8), ten
draws of noise, every block and position restored in turn. Both ways are run in turn, and the figure
is the ratio of their fastest rounds. Target: at least 3 times. Both must give the same map.
"""

from __future__ import annotations

import argparse
import time

import torch
from _common import save
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from layerscope.analyses.causal_tracing import causal_tracing
from layerscope.hooks.anatomy import anatomy

SAMPLES = 10
SUBJECT = (1, 2, 3)


def build(quick: bool) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layers, width, length = (4, 64, 8) if quick else (12, 256, 20)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=8,
    )
    return LlamaForCausalLM(config).eval(), torch.randint(3, 512, (length,))


def by_engine(model: nn.Module, ids: Tensor) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    found = causal_tracing(
        model,
        [ids.tolist()],
        [7],
        [list(SUBJECT)],
        kinds=("resid_post",),
        samples=SAMPLES,
        known=False,
        progress=False,
    )
    parameters = found.provenance.parameters
    names = ("layer_evaluations", "layer_evaluations_by_whole_passes", "noise_sd")
    return time.perf_counter() - started, {name: float(parameters[name]) for name in names}


def by_hooks(model: nn.Module, ids: Tensor, sigma: float) -> float:
    """One whole pass over the ten noised prompts for each block and position."""
    started = time.perf_counter()
    blocks = [model.get_submodule(block.path) for block in anatomy(model).blocks]
    clean: list[Tensor] = []
    keeping = [b.register_forward_hook(lambda m, a, out: clean.append(out)) for b in blocks]
    with torch.no_grad():
        model(input_ids=ids[None])
        for handle in keeping:
            handle.remove()
        embeddings = model.get_input_embeddings()(ids)[None].repeat(SAMPLES, 1, 1)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(SAMPLES, len(SUBJECT), embeddings.shape[-1], generator=generator)
        embeddings[:, list(SUBJECT)] += sigma * noise
        model(inputs_embeds=embeddings)
        for number, block in enumerate(blocks):
            for position in range(len(ids)):

                def restore(
                    m: nn.Module, a: object, out: Tensor, n: int = number, p: int = position
                ) -> Tensor:
                    out = out.clone()
                    out[:, p] = clean[n][:, p]
                    return out

                handle = block.register_forward_hook(restore)
                model(inputs_embeds=embeddings).logits[:, -1].softmax(-1)
                handle.remove()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small model, nothing saved")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    model, ids = build(args.quick)
    ours, theirs, counts = [], [], {}
    by_engine(model, ids)
    for _ in range(1 if args.quick else args.rounds):
        seconds, counts = by_engine(model, ids)
        ours.append(seconds)
        theirs.append(by_hooks(model, ids, counts["noise_sd"]))
    ratio = min(theirs) / min(ours)
    print(f"loop of whole passes {min(theirs):.2f} s, engine {min(ours):.2f} s: {ratio:.1f} times")
    print(
        f"layer-evaluations {counts['layer_evaluations']:.0f}, by whole passes "
        f"{counts['layer_evaluations_by_whole_passes']:.0f}"
    )
    if not args.quick:
        figures = {"seconds": min(ours), "seconds_by_whole_passes": min(theirs), "ratio": ratio}
        save("causal_tracing", {"target": 3.0, **figures, **counts})


if __name__ == "__main__":
    main()
