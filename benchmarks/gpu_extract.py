"""On CUDA: how much of the bare forward pass does extraction keep, the copy to the host included?

A random Llama of about one billion parameters in bf16, every block, ragged texts. The disk is left
out: rows end in pinned host memory, as they do before a shard is written. Without a GPU the same
code runs on a tiny model, so that it cannot rot; only CUDA figures are saved.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _common import save
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from layerscope.corpus import Corpus, read
from layerscope.hooks.extract import extract
from layerscope.hooks.extracting.feeds import feed_of
from layerscope.store import Store

BILLION = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def word_tokenizer(words: int) -> PreTrainedTokenizerFast:
    """One token for each word ``w0 w1 ...``."""
    vocabulary = {f"w{i}": i for i in range(words)} | {"[UNK]": words}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def ragged_texts(count: int, words: int, longest: int) -> list[str]:
    chance = random.Random(0)
    lengths = [min(longest, max(2, int(chance.lognormvariate(4.5, 0.9)))) for _ in range(count)]
    return [" ".join(f"w{chance.randrange(words)}" for _ in range(n)) for n in lengths]


class HostStore(Store):
    """A store that keeps nothing: what is measured ends in host memory."""

    def write(self, index: int, tensors: Any, rows: Any, info: Any = None) -> None:
        self.seen = getattr(self, "seen", 0) + len(rows)

    def has(self, index: int) -> bool:
        return False

    def finish(self, shards: int, notes: Any) -> None:
        self.shards = shards


def bare(model: Any, steps: list[dict[str, Any]]) -> float:
    _wait()
    start = time.perf_counter()
    with torch.inference_mode():
        for inputs in steps:
            model.model(**inputs)
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(device: str, quick: bool) -> dict[str, Any]:
    small = device == "cpu" or quick
    torch.manual_seed(0)
    words = 100 if device == "cpu" else 32000
    shape = TINY if device == "cpu" else BILLION
    config = LlamaConfig(vocab_size=words + 1, max_position_embeddings=2048, **shape)
    with torch.device(device):
        model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    corpus: Corpus = read(ragged_texts(40 if small else 4000, words, 1024))
    tokenizer = word_tokenizer(words)
    options = {"tokenizer": tokenizer, "progress": False}
    with tempfile.TemporaryDirectory() as folder:
        store = extract(model, corpus.take(8), "all", to=folder, **options)
        plan = store.about["plan"]
    feed = feed_of(
        model, corpus, ["blocks.0.resid_post"], rows="tokens", tokenizer=tokenizer,
        special_tokens=False, too_long="truncate",
    )  # fmt: skip
    steps = [
        step.inputs(torch.device(device), torch.bfloat16)[1]
        for _, prepare in feed.shards(plan)
        for step in prepare().steps(plan["batch"])
    ]
    bare(model, steps[:2])
    forward, extraction = [], []
    for _ in range(1 if small else 3):
        forward.append(bare(model, steps))
        extraction.append(_extract_to_host(model, corpus, options))
    tokens = int(sum(inputs["attention_mask"].sum() for inputs in steps))
    return {
        "device": device,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": tokens,
        "bare_forward_s": min(forward),
        "extract_s": min(extraction),
        "tokens_per_s": tokens / min(extraction),
        "share_of_bare_forward": min(forward) / min(extraction),
    }


def _extract_to_host(model: Any, corpus: Corpus, options: dict[str, Any]) -> float:
    import layerscope.hooks.extract as module

    original = module.Store
    module.Store = HostStore  # type: ignore[misc]
    try:
        with tempfile.TemporaryDirectory() as folder:
            _wait()
            start = time.perf_counter()
            extract(model, corpus, "all", to=Path(folder), **options)
            _wait()
            return time.perf_counter() - start
    finally:
        module.Store = original  # type: ignore[misc]


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    figures = measure(device, "--quick" in sys.argv)
    print(figures)
    if device == "cuda" and "--quick" not in sys.argv:
        save("gpu_extract", figures)


if __name__ == "__main__":
    main()
