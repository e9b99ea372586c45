"""How much of the bare forward pass does `extract` keep, disk and checksums included?

One run measures three things on the same 3,000 sentences and the same random 6 x 384 GPT-2:
the bare forward pass over our buckets (the floor: no head, nothing kept), `extract` of every
`resid_post`, and the loop most people write (padded batches of 32 in file order,
`output_hidden_states=True`, one safetensors file for each batch).
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from _common import save
from safetensors.torch import save_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from layerscope.corpus import Corpus, read
from layerscope.hooks.extract import extract
from layerscope.hooks.extracting.feeds import feed_of
from layerscope.store import Store

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SITES = [f"blocks.{i}.resid_post" for i in range(6)]


def model_of(vocabulary: int) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(n_layer=6, n_head=6, n_embd=384, vocab_size=vocabulary, n_positions=1024)
    return GPT2LMHeadModel(config).eval()


def bare(model: GPT2LMHeadModel, corpus: Corpus, tokenizer: Any, plan: dict[str, int]) -> float:
    """Seconds of the blocks alone, over the very buckets that `extract` uses."""
    feed = feed_of(
        model, corpus, SITES, rows="tokens", tokenizer=tokenizer, special_tokens=False,
        too_long="truncate",
    )  # fmt: skip
    steps = [
        step.inputs(torch.device("cpu"), torch.float32)[1]
        for _, prepare in feed.shards(plan)
        for step in prepare().steps(plan["batch"])
    ]
    start = time.perf_counter()
    with torch.inference_mode():
        for inputs in steps:
            model.transformer(**inputs)
    return time.perf_counter() - start


def ours(
    model: GPT2LMHeadModel, corpus: Corpus, tokenizer: Any, folder: Path
) -> tuple[float, Store]:
    start = time.perf_counter()
    store = extract(model, corpus, "all", tokenizer=tokenizer, to=folder, progress=False)
    return time.perf_counter() - start, store


def plain(model: GPT2LMHeadModel, texts: list[str], tokenizer: Any, folder: Path) -> float:
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    folder.mkdir()
    start = time.perf_counter()
    with torch.inference_mode():
        for begin in range(0, len(texts), 32):
            batch = tokenizer(texts[begin : begin + 32], padding=True, return_tensors="pt")
            hidden = model(**batch, output_hidden_states=True).hidden_states
            tensors = {f"layer{i}": h.contiguous() for i, h in enumerate(hidden)}
            save_file(tensors, folder / f"{begin:06d}.safetensors")
    return time.perf_counter() - start


def measure(vocabulary: int, texts: int, rounds: int) -> dict[str, float]:
    corpus = read(DATA / "ud_english_ewt" / "en_ewt-ud-train.conllu.gz").take(texts)
    contents = [text.content for text in islice(corpus, texts)]
    tokenizer = AutoTokenizer.from_pretrained(DATA / "gpt2_books_steps" / "step0")
    model = model_of(vocabulary)
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:  # the model's anatomy is found once
        ours(model, corpus.take(20), tokenizer, Path(folder) / "warm")
    for _ in range(rounds):
        scratch = Path(tempfile.mkdtemp())
        seconds, store = ours(model, corpus, tokenizer, scratch / "ours")
        times = {
            "extract_s": seconds,
            "bare_forward_s": bare(model, corpus, tokenizer, store.about["plan"]),
            "plain_loop_s": plain(model, contents, tokenizer, scratch / "plain"),
        }
        best = {name: min(value, best.get(name, value)) for name, value in times.items()}
        tokens = len(store)
        shutil.rmtree(scratch)
    return {
        "texts": texts,
        "tokens": tokens,
        **{name: round(value, 2) for name, value in best.items()},
        "share_of_bare_forward": round(best["bare_forward_s"] / best["extract_s"], 3),
        "times_faster_than_plain_loop": round(best["plain_loop_s"] / best["extract_s"], 2),
    }


def main() -> None:
    quick = "--quick" in sys.argv
    figures: dict[str, dict[str, float]] = {}
    # The head is what the plain loop pays for and we do not: with GPT-2's vocabulary it is most.
    for name, vocabulary, rounds in (("own_vocabulary", 1024, 2), ("gpt2_vocabulary", 50257, 1)):
        figures[name] = measure(vocabulary, 300 if quick else 3000, 1 if quick else rounds)
        print(name, figures[name], flush=True)
        if not quick:
            save("extract", figures)


if __name__ == "__main__":
    main()
