"""A real sparse autoencoder: TopK at the middle layer of stories260K, 8 times as wide as the stream.

    python benchmarks/sae_stories.py [--data FOLDER] [--keep FOLDER] [--quick]

Trained on 400 TinyStories with k = 4, 8 and 16 in one group, measured on 100 others, beside a random
dictionary of the same width and L0 and as many principal components as the L0. FOLDER (by default
../shared/data) holds stories260K/hf and text_tinystories/tinystories_500.json; --keep writes stores,
SAEs and findings down.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _common import save

from layerscope import extract, load_model
from layerscope.analyses.sae import SAE, evaluate, train_together
from layerscope.analyses.sae import save as save_sae

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LAYER, KS, SEEN = 2, (4, 8, 16), 400


def texts_of(folder: Path) -> list[str]:
    found: list[str] = json.loads((folder / "text_tinystories/tinystories_500.json").read_text())
    return found


def measured(sae: SAE, held_out: Any, model: Any, quick: bool) -> tuple[Any, dict[str, Any]]:
    start = time.perf_counter()
    finding = evaluate(
        sae,
        held_out,
        model=model,
        rows=5000 if quick else 1_000_000,
        tokens=2000 if quick else 100_000,
        progress=False,
    )
    kept = ["key", "measure", "group", "value", "ci_low", "ci_high", "random", "pca", "n", "unit"]
    lines = json.loads(finding.measures[kept].to_json(orient="records", double_precision=6))
    return finding, {"evaluate_s": time.perf_counter() - start, "measures": lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--keep", type=Path, help="where to write stores, SAEs and findings")
    parser.add_argument("--tokens", type=int, default=5_000_000, help="rows to see in training")
    parser.add_argument("--quick", action="store_true", help="few texts and rows; not saved")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(args.data / "stories260K/hf")
    texts = texts_of(args.data)[: 30 if args.quick else None]
    seen = 20 if args.quick else SEEN
    with tempfile.TemporaryDirectory() as scratch:
        place = args.keep or Path(scratch)
        start = time.perf_counter()
        train_store = extract(model, texts[:seen], LAYER, to=place / "train", progress=False)
        held_out = extract(model, texts[seen:], LAYER, to=place / "held_out", progress=False)
        extract_s = time.perf_counter() - start
        start = time.perf_counter()
        saes = train_together(
            train_store,
            LAYER,
            k=KS,
            tokens=100_000 if args.quick else args.tokens,
            batch=1024,
            progress=False,
        )
        train_s = time.perf_counter() - start
        figures: dict[str, Any] = {
            "site": saes[0].site,
            "latents": saes[0].n_latents,
            "rows": {"train": len(train_store), "held_out": len(held_out)},
            "tokens": saes[0].about["tokens"],
            "lr": saes[0].about["lr"],
            "extract_s": extract_s,
            "train_together_s": train_s,
        }
        for sae, k in zip(saes, KS, strict=True):
            finding, lines = measured(sae, held_out, model, args.quick)
            print(finding)
            figures[f"k={k}"] = {"training": sae.history.answer(), **lines}
            if args.keep:
                save_sae(sae, place / f"k{k}")
                sae.history.save(place / f"history_k{k}")
                finding.save(place / f"evaluate_k{k}")
    if not args.quick:
        save("sae_stories", figures)


if __name__ == "__main__":
    main()
