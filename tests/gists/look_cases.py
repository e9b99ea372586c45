"""The model, the data, looks and instruments: a table each, and its sentence."""

from __future__ import annotations

from math import nan

import pandas as pd
from tests.gists.case import Case, block, frame, one

GEOMETRY = "part measure site layer value ci_low ci_high width n n_groups"
MAP = "part measure a b site other_site value null_mean"
CLASSES = "part of site layer value null_mean null_sd floor relative twin"
CHECKS = "row name passed"


def ratio(n: int, *values: float) -> pd.DataFrame:
    spread = {"n_groups": 5, "n": n, "width": 128}
    lines = [
        ("measure", "participation_ratio", block(i), i, x, x - 1, x + 1, *reversed(spread.values()))
        for i, x in enumerate(values)
    ]
    return frame(GEOMETRY, *lines)


def separated(value: float) -> pd.DataFrame:
    return one(
        CLASSES, "gdv", "next", block(7), 7, value, -0.001, 0.002, -0.7, value / -0.7, -0.002
    )


def readings(*verdicts: str) -> pd.DataFrame:
    return frame("instrument verdict", *((f"tool{i}", one) for i, one in enumerate(verdicts)))


LOOKS = [
    Case(
        "AnatomyFinding",
        frame(CHECKS, ("site", "embed", None), ("check", "sums", True), ("check", "copies", True)),
        "The model has 8 blocks of width 128; what is measured between them adds up to its output: 2 of 2 checks passed.",
        {"blocks": 8, "width": 128},
    ),
    Case(
        "AnatomyFinding",
        frame(CHECKS, ("check", "sums", True), ("check", "copies", False)),
        "The model has 8 blocks of width 128; 1 of 2 checks failed: copies.",
        {"blocks": 8, "width": 128},
    ),
    Case(
        "StoreFinding",
        one("label value count share", "upos", "NOUN", 5, 0.5),
        "The states of 11,908 rows (words or samples) from 900 texts are kept, each at 9 places in the model.",
        {"rows": 11908, "sources": 900, "source": "text", "sites": 9},
    ),
    Case(
        "CorpusFinding",
        one("label unit value count share", "upos", "word", "NOUN", 5, 0.5),
        "The data, 2,001 texts, 25,147 words in 318 groups, carry 1 label.",
        {"text": 2001, "word": 25147, "group": 318},
    ),
    Case(
        "Calibration",
        readings("as expected", "as expected"),
        "All 2 instruments read what was planted: none of 2 readings is off.",
    ),
    Case(
        "Calibration",
        readings("as expected", "off", "failed"),
        "1 of 3 instruments read what was planted; off or failed: tool1, tool2.",
    ),
    Case(
        "RecallFinding",
        frame(
            "kind value ci_low baseline",
            ("one hop", 1.0, 0.99, 0.15),
            ("two hops, unseen", 0.87, 0.83, 0.17),
        ),
        "The model gets 100 % of its facts right, and 87 % of the chains of two facts it has never seen; guessing gets 17 %.",
    ),
    Case(
        "RecallFinding",
        one("kind value ci_low baseline", "two hops, unseen", 0.18, 0.15, 0.17),
        "The model gets the chains of two facts it has never seen right no more often than guessing: 18 % against 17 %.",
    ),
    Case(
        "WordClassFinding",
        separated(-0.147),
        "States lie apart most by the class of the next word at block 7: 21 % of the most possible; untrained 0.3 %, shuffled labels 0.1 %.",
    ),
    Case(
        "WordClassFinding",
        separated(-0.003),
        "States lie no further apart by the class of the next word at any layer than with shuffled labels.",
    ),
    Case(
        "ClusterFinding",
        one(
            "part method site value clusters null_mean null_sd",
            "silhouette",
            "kmeans",
            block(2),
            0.47,
            10,
            0.01,
            0.01,
        ),
        "The rows lie most clearly in 10 clusters at block 2: silhouette 0.47 of 1, shuffled features 0.01.",
    ),
    Case(
        "ClusterFinding",
        one(
            "part method site value clusters null_mean null_sd",
            "silhouette",
            "kmeans",
            block(2),
            0.11,
            10,
            0.1,
            0.01,
        ),
        "No clusters stand out: silhouette 0.11, shuffled features 0.10.",
    ),
    Case(
        "GeometryFinding",
        ratio(9000, 23.5, 34.2),
        "Of 128 dimensions the rows spread over about 24 at block 0 to 34 at block 1.",
    ),
    Case(
        "GeometryFinding",
        ratio(100, 23.5, 34.2),
        "100 rows are too few to tell how many of the 128 dimensions they fill.",
    ),
    Case(
        "SimilarityMapFinding",
        frame(
            MAP,
            ("within", "cka", "m", "m", block(0), block(1), 0.8, 0.02),
            ("within", "cka", "m", "m", block(1), block(2), 0.9, 0.02),
            ("within", "cka", "m", "m", block(0), block(2), 0.31, 0.02),
            ("within", "cka", "m", "m", block(2), block(2), 1.0, 0.02),
        ),
        "The likeness of neighbouring layers is 0.85, of the first and the last 0.31, of shuffled rows 0.02 (CKA, unbiased).",
    ),
    Case(
        "TaskGeometryFinding",
        frame(
            "measure site value null_mean",
            ("input_target_alignment", "", 0.06, nan),
            ("target_alignment", block(5), 0.61, 0.39),
        ),
        "The layers follow the task most at block 5: alignment 0.61, the inputs alone 0.06, shuffled 0.39.",
    ),
    Case(
        "TaskGeometryFinding",
        frame(
            "measure site value null_mean",
            ("input_target_alignment", "", 0.66, nan),
            ("target_alignment", block(5), 0.61, 0.39),
        ),
        "No layer follows the task more than its inputs do: 0.61 at most, the inputs 0.66.",
    ),
    Case(
        "SparsityFinding",
        frame(
            "measure part level layer value baseline",
            ("energy", "neurons", 0.9, 0, 0.02, 0.44),
            ("energy", "neurons", 0.9, 4, 0.16, 0.44),
        ),
        "90 % of a token's activity is in 2 % (block 0) to 16 % (block 4) of the neurons; of random numbers in 44 %.",
    ),
    Case(
        "AttentionModesFinding",
        frame("part mode twin_mode", ("head", "IV", "I"), ("head", "I", "I"), ("head", "II", "I")),
        "Of 3 attention heads 1 pick a few tokens and 1 average over most; in an untrained model it is 0 and 3.",
    ),
]
