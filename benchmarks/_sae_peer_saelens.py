"""SAELens' own trainer on rows held in memory: tokens a second of a TopK SAE, printed as JSON.

Run by an interpreter that has sae_lens (no layerscope needed); benchmarks/sae_training.py calls it:

    PYTHON_WITH_SAELENS benchmarks/sae_peer_saelens.py [--threads 2] [--steps 8] [--settings default ...]

What runs is `SAETrainer.fit` with its defaults (Adam, AuxK with coefficient 1, codes rescaled by the
decoder's norms, gradient clipped at 1, float32, no compilation), without logging. Batches are slices
of one tensor, so that no time goes into reading. Words of a setting, each of which SAELens offers:

    default     as above
    compiled    its compile_sae
    unscaled    rescale_acts_by_decoder_norm=False
    sparse      use_sparse_activations=True, a sparse product for the decoder
    autocast    bfloat16 products, which changes the numbers

With the versions of 2026 `sparse` alone fails on CPUs in the backward pass of the rescaling; `sparse
unscaled` runs. A step is measured from one request for a batch to the next, hence with everything
that `fit` does. `fastest` is the fastest setting in float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig, __version__
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer

SETTINGS = ("default", "compiled", "unscaled", "sparse", "sparse unscaled", "autocast")


class Timed:
    """Batches of a tensor, one after the other, and the moment at which each was asked for."""

    def __init__(self, rows: torch.Tensor, batch: int) -> None:
        self.batches = rows.split(batch)
        self.asked: list[float] = []

    def __iter__(self) -> Iterator[torch.Tensor]:
        return self

    def __next__(self) -> torch.Tensor:
        self.asked.append(time.perf_counter())
        return self.batches[len(self.asked) % len(self.batches)]


def planted_rows(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    """Sums of a few of 2 x `width` random directions, and a little noise: [rows, width]."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(2 * width, width, generator=generator) / width**0.5
    made = 0.05 * torch.randn(rows, width, generator=generator)
    for part in made.split(4096):
        fires = torch.rand(len(part), 2 * width, generator=generator) < 16 / width
        part += (fires * torch.rand(fires.shape, generator=generator)) @ directions
    return made


def trainer_of(setting: str, data: Timed, args: argparse.Namespace, steps: int) -> Any:
    torch.manual_seed(0)
    config = TopKTrainingSAEConfig(
        d_in=args.width,
        d_sae=args.latents,
        k=args.k,
        device="cpu",
        use_sparse_activations="sparse" in setting,
        rescale_acts_by_decoder_norm="unscaled" not in setting,
    )
    sae = TopKTrainingSAE(config)
    if "compiled" in setting:  # what its runner does with compile_sae=True
        sae.training_forward_pass = torch.compile(sae.training_forward_pass)
    trainer = SAETrainerConfig(
        total_training_samples=steps * args.batch,
        train_batch_size_samples=args.batch,
        autocast=setting == "autocast",
        lr_end=3e-5,  # what its runner fills in; a constant rate never uses it
    )
    return SAETrainer(trainer, sae, data)


def measured(setting: str, rows: torch.Tensor, args: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second of one setting: median of the steps after the warm-up."""
    data = Timed(rows, args.batch)
    # One more: a step ends where the next one asks for its batch.
    trainer_of(setting, data, args, args.warmup + args.steps + 1).fit()
    seconds = [b - a for a, b in zip(data.asked, data.asked[1:], strict=False)][args.warmup :]
    middle = statistics.median(seconds)
    return {
        "tokens_per_s": args.batch / middle,
        "median_step_s": middle,
        "fastest_step_s": min(seconds),
        "steps": len(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--latents", type=int, default=6144)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=8, help="measured steps")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS[:5]), choices=SETTINGS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = planted_rows(8 * args.batch, args.width)
    found: dict[str, Any] = {}
    for setting in args.settings:
        try:
            found[setting] = measured(setting, rows, args)
        except Exception as error:  # noqa: BLE001  a setting that cannot run here is an answer too
            found[setting] = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
    ran = {name: x for name, x in found.items() if "error" not in x and name != "autocast"}
    print(
        json.dumps(
            {
                "sae_lens": __version__,
                "torch": torch.__version__,
                "threads": args.threads,
                "shape": {x: getattr(args, x) for x in ("width", "latents", "k", "batch")},
                "settings": found,
                "fastest": max(ran, key=lambda name: ran[name]["tokens_per_s"]) if ran else None,
            }
        )
    )


if __name__ == "__main__":
    main()
