"""Mistakes, dictionaries, information and training: a table each, and its sentence."""

from __future__ import annotations

from math import nan
from typing import Any

import pandas as pd
from tests.gists.case import Case, block, frame, one

REGIME = "step measure site value null_mean null_sd"
GAP = "part scope coefficient gap measure site layer value ci_low ci_high n"
FEATURES = "latent fired density n label class score null null_sd random_told"
KNOWN = "site kind label value ceiling decides verdict verdict_value reason null_mean unit layer verdict_low verdict_high n"


def learned(*paths: list[float], **columns: Any) -> pd.DataFrame:
    lines = [
        (0, step, f"hidden.{layer}", layer, x)
        for layer, path in enumerate(paths)
        for step, x in enumerate(path)
    ]
    fixed = {"estimator": "binned", "setting": "30 bins", "share": 1 / 30, "resolution": 0.1}
    more = {"width": 3, "ceiling_x": 12.0, "unit": "bits", "n": 4096, "verdict": ""}
    return frame("seed step site layer x", *lines).assign(**(fixed | more | columns))


def kept(states: float) -> pd.DataFrame:
    return frame(
        REGIME,
        (100, "relative_weight_change", "whole network", 1.44, nan, nan),
        (100, "representation_alignment", block(3), 0.3, 0.25, 0.01),
        (100, "centred_representation_alignment", block(3), states, 0.05, 0.01),
    )


def ranked(low: float, high: float) -> pd.DataFrame:
    place = ("correlation", "all", "kendall", "loss", "mc_given_label", "hidden.1", 1)
    return one(GAP, *place, (low + high) / 2, low, high, 24)


def told(random: float) -> pd.DataFrame:
    lines = [
        (i, 9, 0.1, 100, "upos", "NOUN", score, 0.1, 0.02, random)
        for i, score in enumerate((0.9, 0.5, 0.4, 0.1))
    ]
    return frame(FEATURES, *lines)


def known(verdict: str, value: float, reason: str) -> pd.DataFrame:
    return one(
        KNOWN,
        "x",
        "pair",
        "",
        value,
        nan,
        True,
        verdict,
        value,
        reason,
        0.0,
        "bits",
        0,
        nan,
        nan,
        9,
    )


def explained(pca: float) -> pd.DataFrame:
    return frame(
        "group key measure value random pca",
        ("kept", "explained_variance", "explained variance", 0.87, 0.57, pca),
        ("kept", "l0", "L0", 16.0, nan, nan),
    )


TRAINED = [
    Case(
        "LabelErrorsFinding",
        one(
            "part site label value accuracy n recall precision null_mean",
            "site",
            block(2),
            "upos",
            0.125,
            0.8,
            2000,
            0.9,
            0.28,
            0.05,
        ),
        "250 of 2,000 labels (upos) look wrong; where errors were planted, 28 % of such suspicions hit one, by chance 5 %.",
    ),
    Case(
        "LabelErrorsFinding",
        one("part site label value accuracy n", "site", block(2), "upos", 0.0, 0.8, 2000),
        "None of 2,000 labels (upos) looks wrong.",
    ),
    Case(
        "SlicesFinding",
        one(
            "part site label slice value ci_low error baseline",
            "column",
            block(2),
            "upos",
            "upos = SYM",
            0.7,
            0.6,
            0.94,
            0.21,
        ),
        "The probe of the word class (upos) errs most where upos = SYM: on 94 % of the rows, elsewhere on 21 %.",
    ),
    Case(
        "SlicesFinding",
        one(
            "part site label slice value ci_low error baseline",
            "column",
            block(2),
            "upos",
            "upos = SYM",
            0.1,
            -0.1,
            0.3,
            0.21,
        ),
        "On none of 1 kinds of rows does the probe clearly err more than elsewhere.",
    ),
    Case(
        "FeaturesFinding",
        told(0.4),
        "75 % of the features tell the word class (upos) better than shuffled labels; of random directions 40 %.",
    ),
    Case(
        "FeaturesFinding",
        told(0.9),
        "75 % of the features tell the word class (upos) better than shuffled labels; no more than random directions: 90 %.",
    ),
    Case(
        "SAEFinding",
        explained(0.58),
        "16 features at a time explain 87 % of the variance; as many principal components 58 %, random directions 57 %.",
    ),
    Case(
        "SAEFinding",
        explained(0.9),
        "16 features at a time explain 87 % of the variance; no more than others: as many principal components 90 %, random directions 57 %.",
    ),
    Case(
        "TrainingFinding",
        frame(
            "member explained_variance l0 latents dead_share",
            (0, 0.5, 8.0, 512, 0.1),
            (0, 0.83, 8.0, 512, 0.14),
        ),
        "The dictionary explains 83 % of the variance with 8 of 512 features at a time; 14 % never fire.",
    ),
    Case(
        "MutualInformationFinding",
        known("value", 1.5, "the pair agrees"),
        "One tells 1.5 bits about the other; shuffled pairs give 0.",
    ),
    Case(
        "MutualInformationFinding",
        known("value", 0.01, "not told apart from 0: so small"),
        "Nothing is seen that one tells of the other: 0.01 bits, shuffled pairs give 0.",
    ),
    Case(
        "MutualInformationFinding",
        known("unreliable", nan, "the pair disagrees by 50%"),
        "No number can be relied on: the two estimates disagree by 50%.",
    ),
    Case(
        "MutualInformationFinding",
        known("refused", nan, "one row only"),
        "No number is given: one row only.",
    ),
    Case(
        "InformationPlaneFinding",
        learned([3.0, 7.5, 4.1], [3.0, 6.0, 6.0]),
        "The entropy falls in 1 of 2 layers while they learn, most at hidden layer 0: by 3.4 of 7.5 bits.",
    ),
    Case(
        "InformationPlaneFinding",
        learned([3.0, 6.0, 6.0], [3.0, 12.0, 12.0]),
        "The entropy is not seen to fall in any of 2 layers while they learn; 1 leave no room to see it.",
    ),
    Case(
        "InformationPlaneFinding",
        learned([3.0]),
        "One snapshot cannot tell whether a layer gives up information while it learns.",
    ),
    Case(
        "GeneralisationGapFinding",
        ranked(0.1, 0.5),
        "Among 24 networks layers that keep less about the input go with a smaller gap (rank correlation 0.30, 0.10 to 0.50).",
    ),
    Case(
        "GeneralisationGapFinding",
        ranked(-0.2, 0.4),
        "Among 24 networks keeping less about the input is not seen to go with a smaller gap (rank correlation 0.10, -0.20 to 0.40).",
    ),
    Case(
        "LearningRegimeFinding",
        kept(0.16),
        "Training moved the weights by 1.4 times their size at first; block 3 keeps 16 % of its first arrangement, shuffled rows 5 %.",
    ),
    Case(
        "LearningRegimeFinding",
        kept(0.06),
        "Training moved the weights by 1.4 times their size at first; at block 3 nothing kept of the first arrangement can be seen.",
    ),
]
