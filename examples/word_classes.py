"""Where does a language model keep the word class of the word it has just read?

    python examples/word_classes.py MODEL TREEBANK.conllu [REPORT.html]

The activations of every layer go to a store, a probe reads `upos` at each, and the report shows
the curve beside the control task and the embeddings.
"""

from __future__ import annotations

import sys

import layerscope as ls


def main(model_folder: str, treebank: str, out: str = "word_classes.html") -> None:
    model = ls.load_model(model_folder)
    store = ls.extract(model, ls.read(treebank), ["embed", "all"])
    finding = ls.probe(store, "all", label="upos")
    print(finding)
    print(finding.table[["site", "value", "ci_low", "ci_high", "control", "selectivity"]])
    print(ls.report([ls.anatomy(model).finding(), store.finding(), finding], out))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
