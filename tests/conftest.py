"""Fixtures that many test files share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# The suite's models are tiny: one thread is faster, and every run then adds in the same order.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real models and data beside the checkout; tests that need it skip without."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is absent: real models and data are not part of the repository")
    return folder


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own activation cache."""
    folder = tmp_path / "layerscope-cache"
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(folder))
    return folder


SENTENCES = [
    "the cat sat on the mat .",
    "a dog barks",
    "she saw the old man with a telescope , and he waved back to her .",
    "fish swim",
    "the key to the cabinets is on the table near the door .",
    "who knows ?",
    "rain fell on the quiet town all night and in the morning the river had risen .",
    "yes .",
    "birds that sing early are heard by those who wake early .",
    "it works",
]


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    return list(SENTENCES)


@pytest.fixture(scope="session")
def tokenizer():  # type: ignore[no-untyped-def]
    """A byte-level BPE of 300 pieces, trained here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>")


@pytest.fixture
def gpt2():  # type: ignore[no-untyped-def]
    """A random GPT-2 of 3 blocks that fits `tokenizer`; learned positions show padding faults."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(n_layer=3, n_head=2, n_embd=16, vocab_size=300, n_positions=64)
        return GPT2LMHeadModel(config).eval()


@pytest.fixture
def make_store(tmp_path: Path):  # type: ignore[no-untyped-def]
    """``make_store({site: [rows, width]}, group=..., label=...)``, complete and on disk."""
    import pandas as pd
    import torch

    from layerscope.store import Store

    made: list[Store] = []

    def make(sites: Any, parts: Any = None, **columns: Any) -> Store:
        rows = len(next(iter(sites.values())))
        frame = pd.DataFrame(
            {"text": range(rows), "position": 0, "token_id": 0} | columns, index=range(rows)
        )
        store = Store.create(
            tmp_path / f"store{len(made)}",
            {"rows": "tokens", **(parts or {})},
            sites={name: x.shape[1] for name, x in sites.items()},
            dtype=torch.float32,
            about={"model": "planted", "corpus": "planted"},
        )
        store.write(0, {name: x.float() for name, x in sites.items()}, frame)
        store.finish(1)
        made.append(store)
        return store

    return make
