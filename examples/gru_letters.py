"""How long does a recurrent network remember a letter?

    python examples/gru_letters.py G2P_FOLDER

The encoder of a grapheme-to-phoneme GRU reads words letter by letter. It is a plain PyTorch module
without blocks, so its layers are named by module path. At each letter a probe reads the current
letter, the one before, and so on back, from the embedding and from the recurrent state.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import layerscope as ls

LONGEST = 16


class Encoder(nn.Module):
    """The reading half of the network."""

    def __init__(self, letters: int, width: int) -> None:
        super().__init__()
        self.enc_emb = nn.Embedding(letters, width)
        self.enc = nn.GRU(width, width, batch_first=True)

    def forward(self, letters: Tensor) -> Tensor:
        states, _ = self.enc(self.enc_emb(letters))
        return states


def load_encoder(folder: Path) -> tuple[Encoder, list[str]]:
    config = json.loads((folder / "config.json").read_text())
    encoder = Encoder(len(config["graphemes"]), config["hidden"])
    weights = load_file(folder / "model.safetensors")
    encoder.load_state_dict({k: v for k, v in weights.items() if k.startswith("enc")})
    return encoder.eval(), config["graphemes"]


def dictionary(folder: Path) -> list[str]:
    """The words of the pronouncing dictionary that are letters only."""
    with zipfile.ZipFile(folder / "cmudict.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("cmudict"))
        lines = io.TextIOWrapper(archive.open(name), encoding="latin-1").read().splitlines()
    words = dict.fromkeys(line.split()[0].lower() for line in lines if line[:1].isalpha())
    return [word for word in words if word.isascii() and word.isalpha() and len(word) <= LONGEST]


def main(source: str, words: int = 2000) -> pd.DataFrame:
    folder = Path(source)
    encoder, letters = load_encoder(folder)
    code = {letter: index for index, letter in enumerate(letters)}
    lexicon = dictionary(folder)
    sample = lexicon[:: max(1, len(lexicon) // words)][:words]
    ids = torch.zeros(len(sample), LONGEST, dtype=torch.long)
    for row, word in enumerate(sample):
        ids[row, : len(word)] = torch.tensor([code[letter] for letter in word])
    back = {
        f"letter {steps} back": [
            [word[i - steps] if steps <= i < len(word) else None for i in range(LONGEST)]
            for word in sample
        ]
        for steps in range(5)
    }
    data = ls.Samples(ids, mask=ids != 0, labels=back, groups=sample, name="cmudict")
    store = ls.extract(encoder, data, ["enc_emb", "enc"], rows="positions")
    table = pd.DataFrame(
        {
            label: ls.probe(store, ["enc_emb", "enc"], label=label).table.set_index("site")["value"]
            for label in back
        }
    ).T
    print(table.round(3).to_string())
    return table


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1])
