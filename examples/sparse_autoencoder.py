"""What does one latent of a sparse autoencoder mean?

    python examples/sparse_autoencoder.py MODEL TEXTS [REPORT]

Trains a TopK autoencoder on the model's middle layer, measures it beside a random dictionary and
principal components, and says of one latent where it fires, what it writes and who its neighbours are.
"""

from __future__ import annotations

import sys

import layerscope as ls
from layerscope.analyses import sae


def main(source: str, texts: str, report: str = "latents.html", tokens: int = 1_000_000) -> str:
    model = ls.load_model(source)
    middle = len(ls.anatomy(model).blocks) // 2
    store = ls.extract(model, ls.read(texts), middle)
    dictionary = sae.train(store, middle, k=16, tokens=tokens, lr=3e-3)
    quality = sae.evaluate(dictionary, store, model=model, tokens=5000)
    latents = sae.features(dictionary, store, model=model, shown=12, layout="pca")
    ls.report([dictionary.history, quality, latents], report)
    shown = latents.table.dropna(subset="place").sort_values("place").iloc[0]
    said = (
        f"latent {shown['latent']} fires on {shown['density']:.1%} of the tokens, most often on "
        f"{shown['top_token']!r}; its direction raises {', '.join(map(repr, shown['up'][:5]))}"
    )
    print(quality.answer(), said, f"written to {report}", sep="\n")
    return said


if __name__ == "__main__":
    main(*sys.argv[1:])
