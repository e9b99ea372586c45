"""Probes: a table each, and its sentence."""

from __future__ import annotations

from math import nan

import pandas as pd
from tests.gists.case import Case, block, frame, one

PROBE = "site layer label value ci_low ci_high baseline control twin unit estimator"
CODE = "part site layer label value ci_low bits_per_label baseline_bits_per_label control control_bits_per_label"
CONTRAST = "site layer label value ci_low null_mean random supervised"
CLUE = "part site label value ci_low null_mean baseline"
TREE = "site layer measure label value ci_low baseline twin"
MIX = "part site label weight value ci_low baseline unit"
POOLING = PROBE + " pooling"


def probed(kind: str, label: str = "upos", unit: str = "accuracy") -> pd.DataFrame:
    return frame(
        PROBE,
        ("embed", -1, label, 0.85, 0.83, 0.87, 0.2, 0.6, nan, unit, "ridge"),
        (block(5), 5, label, 0.99, 0.98, 0.995, 0.21, 0.61, nan, unit, "ridge"),
    ).assign(kind=kind)


PROBES = [
    Case(
        "ProbeFinding",
        probed("probe"),
        "The word class (upos) is read best at block 5: 99 % right; guessing the commonest gives 21 %, random labels 61 %.",
    ),
    Case(
        "ProbeFinding",
        one(PROBE, block(0), 0, "x", 0.52, 0.48, 0.56, 0.5, 0.4, nan, "accuracy", "ridge"),
        "“x” is not seen to be readable: 52 % right at best; guessing the commonest gives 50 %.",
    ),
    Case(
        "ProbeFinding",
        one(PROBE, block(0), 0, "x", 0.8, 0.78, 0.82, 0.5, 0.4, 0.81, "accuracy", "ridge"),
        "“x” is read at block 0: 80 % right, but an untrained model does as well: 81 %.",
    ),
    Case(
        "ProbeFinding",
        one(PROBE, block(0), 0, "x", 0.8, 0.78, 0.82, 0.5, 0.79, 0.3, "accuracy", "ridge"),
        "“x” is read at block 0: 80 % right, but random labels are read as well: 79 %.",
    ),
    Case(
        "ProbeFinding",
        one(PROBE, block(0), 0, "x", -0.1, -0.2, 0.1, nan, nan, nan, "R²", "ridge"),
        "“x” is not seen to be readable: -10 % of its variance explained at best.",
    ),
    Case(
        "WordClass",
        probed("demo"),
        "The class of a word is read best at block 5: 99 % right; guessing the commonest gives 21 %, random labels 61 %.",
    ),
    Case(
        "OpenWordClass",
        probed("demo"),
        "Word class, where the form leaves it open, is read best at block 5: 99 % right; guessing the commonest gives 21 %, random labels 61 %.",
    ),
    Case(
        "HiddenNumber",
        probed("demo"),
        "The number a verb does not show is read best at block 5: 99 % right; guessing the commonest gives 21 %, random labels 61 %.",
    ),
    Case(
        "ParseDepth",
        probed("demo", unit="R²"),
        "How deep a word stands in the sentence is read best at block 5: 99 % of its variance explained; random labels give 61 %.",
    ),
    Case(
        "CodeFinding",
        one(CODE, "code", block(2), 2, "upos", 3.9, 3.7, 1.05, 3.62, 1.61, 2.54),
        "The word class (upos) takes the fewest bits at block 2: 1.05 each, without a model 3.62, random labels 2.54.",
    ),
    Case(
        "CodeFinding",
        one(CODE, "code", block(2), 2, "x", 0.96, 0.86, 1.05, 1.06, nan, nan),
        "“x” saves no bits at any layer: 1.05 each, without a model 1.06.",
    ),
    Case(
        "ConsistencyFinding",
        one(CONTRAST, block(1), 1, "plural", 0.97, 0.95, 0.52, 0.86, 0.99),
        "Without labels, “plural” is told best at block 1: 97 % right; chance directions 86 %, a trained probe 99 %.",
    ),
    Case(
        "ConsistencyFinding",
        one(CONTRAST, block(1), 1, "true", 0.55, 0.49, 0.52, 0.53, 0.6),
        "Without labels, “true” is not seen at any layer: 55 % right, chance directions 53 %.",
    ),
    Case(
        "ClueFinding",
        one(CLUE, "all", "9 layers", "correct", 0.77, 0.72, 0.70, 0.87),
        "The change over all layers tells “correct” in 77 % of the traces, but always the commonest in 87 %, shuffled labels in 70 %.",
    ),
    Case(
        "ClueFinding",
        one(CLUE, "all", "9 layers", "correct", 0.77, 0.69, 0.70, 0.6),
        "The change over all layers tells “correct” in 77 % of the traces, no better than shuffled labels: 70 %.",
    ),
    Case(
        "AstFinding",
        one(TREE, block(2), 2, "f1", "dependency tree", 0.52, 0.51, 0.2, 0.4),
        "Dependency trees are read best at block 2: 52 % of their parts right; without a model 20 %, untrained 40 %.",
    ),
    Case(
        "StructuralFinding",
        one(TREE, block(6), 6, "uuas", "depth", 0.77, 0.75, 0.39, 0.41),
        "Block 6 shows 77 % of the links between words; linking neighbours gives 39 %, an untrained model 41 %.",
    ),
    Case(
        "StructuralFinding",
        one(TREE, block(6), 6, "uuas", "depth", 0.29, 0.27, 0.43, nan),
        "No layer shows more of the links between words than linking neighbours does: 29 % against 43 %.",
    ),
    Case(
        "LayerMixFinding",
        frame(
            MIX,
            ("layer", block(2), "upos", 0.91, nan, nan, nan, "accuracy"),
            ("mix", "", "upos", nan, 0.78, 0.76, 0.16, "accuracy"),
            ("best", block(2), "upos", nan, 0.77, 0.75, 0.16, "accuracy"),
        ),
        "The word class (upos) is read mostly from block 2 (weight 0.91): the mix 78 % right, one layer 77 %.",
    ),
    Case(
        "PoolingFinding",
        frame(
            POOLING,
            (block(0), 0, "author", 0.5, 0.48, 0.52, 0.25, 0.22, nan, "accuracy", "", "last"),
            (block(1), 1, "author", 0.78, 0.75, 0.81, 0.25, 0.22, nan, "accuracy", "", "mean"),
        ),
        "“author” of a text is read best from the mean at block 1: 78 % right; guessing the commonest gives 25 %, random labels 22 %.",
    ),
]
