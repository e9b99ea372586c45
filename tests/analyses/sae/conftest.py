"""A store whose latents are known: every token is carried by a direction of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from layerscope.analyses.sae.sae import SAE
from layerscope.store import Store

SITE = "blocks.1.resid_post"
WORDS = ("cat", "dog", "red", "blue", "runs", "sits")
KINDS = {"cat": "noun", "dog": "noun", "red": "colour", "blue": "colour"}
LATENT = {"cat": 0, "dog": 1, "red": 2, "blue": 2, "runs": 3, "sits": 3}
"""Latent 2 fires on both colours, 3 on both verbs, 4 is dead, 5 fires on every last word of a text."""
WIDTH, LATENTS, TEXTS, LENGTH = 8, 6, 40, 9


@dataclass(frozen=True)
class KnownWords:
    store: Store
    sae: SAE
    rows: pd.DataFrame
    codes: Any
    """[rows, latents] the right answer."""
    site: str = SITE


def make(folder: Path, *, texts: int = TEXTS, shards: int = 3) -> KnownWords:
    rng = np.random.default_rng(5)
    lines = []
    for text in range(texts):
        words = [WORDS[i] for i in rng.integers(len(WORDS), size=LENGTH)]
        content, start = " ".join(words), 0
        for position, word in enumerate(words):
            lead = position > 0
            lines.append(
                {
                    "text": text,
                    "group": text,
                    "position": position,
                    "token_id": WORDS.index(word),
                    "token": f" {word}" if lead else word,
                    "char_start": start,
                    "char_end": start + len(word) + lead,
                    "kind": KINDS.get(word, "verb"),
                    "content": content,
                }
            )
            start += len(word) + lead
    rows = pd.DataFrame(lines)
    codes = np.zeros((len(rows), LATENTS), dtype=np.float32)
    for row, word in enumerate(rows["token"].str.strip()):
        codes[row, LATENT[word]] = rng.integers(1, 9) / 4  # few values, so there are ties
    codes[rows["position"] == LENGTH - 1, 5] = 3.0
    # Axes of the space and their negatives: every product is exact.
    directions = (
        torch.eye(WIDTH)[[3, 1, 6, 0, 2, 5]] * torch.tensor([1.0, -1, 1, -1, 1, 1])[:, None]
    )
    x = torch.from_numpy(codes) @ directions
    store = Store.create(
        folder, {"planted": texts}, sites={SITE: WIDTH}, dtype=torch.float32, about={"model": "m"}
    )
    cuts = np.linspace(0, len(rows), shards + 1).astype(int)
    for shard in range(shards):
        part = slice(cuts[shard], cuts[shard + 1])
        store.write(shard, {SITE: x[part]}, rows.iloc[part].reset_index(drop=True))
    store.finish(shards)
    sae = SAE(
        directions.T,
        torch.zeros(LATENTS),
        directions,
        torch.zeros(WIDTH),
        about={"site": SITE},
    )
    return KnownWords(store, sae, rows, codes)


@pytest.fixture(scope="session")
def known_words(tmp_path_factory: pytest.TempPathFactory) -> KnownWords:
    return make(tmp_path_factory.mktemp("known") / "store")
