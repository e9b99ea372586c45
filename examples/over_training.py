"""When in training does a model learn word classes, and in which layer?

    python examples/over_training.py RUN_FOLDER TREEBANK.conllu STEP [STEP ...]

`RUN_FOLDER` holds one model folder for each checkpoint: step0, step256, ... Each step gets its own
store, because other weights are other activations.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

import layerscope as ls


def main(run: str, treebank: str, *steps: str) -> pd.DataFrame:
    corpus = ls.read(treebank)
    curves = {}
    for step in steps:
        model = ls.load_model(Path(run) / f"step{step}")
        store = ls.extract(model, corpus, ["embed", "all"])
        curves[int(step)] = ls.probe(store, "all", label="upos").table.set_index("site")["value"]
    table = pd.DataFrame(curves)
    print(table.round(3).to_string())
    return table


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
