"""What-if analyses and lenses: a table each, and its sentence."""

from __future__ import annotations

from math import nan

import pandas as pd
from tests.gists.case import Case, block, frame, one

SKIP = "change part measure tokens layer value"
DROP = "part order dropped value added null_mean baseline"
PATCH = "direction site kind layer head position token value"
TRIES = "kind position group states value estimator excess_low n"
ERASURE = "part method site label measure scope value before baseline null_mean null_sd matched_mean matched_sd beyond beyond_low n"


def skipped(*effects: float) -> pd.DataFrame:
    return frame(SKIP, *(("skip", "block", "loss", "all", i, x) for i, x in enumerate(effects)))


def dropped(added: float, random: float) -> pd.DataFrame:
    return frame(
        DROP,
        ("block", "none", 0, 3.4, 0.0, nan, 3.4),
        ("block", "one-shot", 2, 3.4 + added, added, 3.4 + random, 3.4),
    )


def tried(excess_low: float) -> pd.DataFrame:
    lines = [("own", 0.63), ("other prompt", 0.18), ("noise", 0.25)]
    place = ("any pair", "last", "wrong at first")
    return frame(
        TRIES, *((*place, name, x, "likeliest tokens", excess_low, 65) for name, x in lines)
    )


def erased(beyond_low: float) -> pd.DataFrame:
    place = ("leace", block(2), "Number")
    read = ("accuracy", "all", nan, 0.97, 0.58, nan, nan, nan, nan, nan, nan, 100)
    used = ("loss", "all", 0.067, nan, nan, 0.001, 0.001, 0.006, 0.001, 0.061, beyond_low, 100)
    return frame(ERASURE, ("decodable", *place, *read), ("used", *place, *used))


def programs(solved: int) -> pd.DataFrame:
    lines = [
        (search, prompt, False, found, nan, 8)
        for search, count in (("answer", solved), ("control", 8))
        for prompt, found in enumerate([True] * count + [False] * (40 - count))
    ]
    return frame("search prompt baseline solved shortest blocks", *lines)


WHAT_IF = [
    Case(
        "SkipFinding",
        skipped(3.58, 0.9, 0.053),
        "Block 0 matters most: without it the loss rises by 3.6 nats a token; without block 2 it rises by 0.053.",
    ),
    Case(
        "SkipFinding",
        skipped(-3.2, -0.012),
        "No block is needed: without block 1 the loss falls by 0.012 nats a token; without block 0 it falls by 3.2.",
    ),
    Case(
        "DropFinding",
        dropped(0.068, 1.79),
        "2 of the blocks can be left out for 0.068 nats more loss a token; a random choice costs 1.8.",
    ),
    Case(
        "DropFinding",
        dropped(0.5, 0.4),
        "None of the blocks can be left out cheaply: 2 of them cost 0.5 nats more loss a token; a random choice costs no more: 0.4.",
    ),
    Case(
        "FfnSkipFinding",
        one("share value control", 0.41, 0.023, 0.2),
        "41 % of the MLPs can be skipped for 0.023 nats a token; as many at random cost 0.2.",
    ),
    Case(
        "FfnSkipFinding",
        one("share value control", 0.41, 0.23, 0.21),
        "41 % of the MLPs can be skipped for 0.23 nats a token, no better than as many at random: 0.21.",
    ),
    Case(
        "WindowsFinding",
        frame("layer blocks value control", (0, 2, 3.4, 1.0), (3, 2, 0.012, 0.021)),
        "Run side by side, blocks 3 and 4 change the output least: 0.012 nats, a random change of that size 0.021; 0 and 1 most: 3.4.",
    ),
    Case(
        "SimilarityFinding",
        frame("part layer value", ("block", 0, 0.07), ("block", 4, 0.97)),
        "Block 4 turns the hidden state least (cosine 0.97, 1 is no turn), block 0 most (0.07).",
    ),
    Case(
        "BackPatchingFinding",
        tried(0.2),
        "63 % of the wrong answers come right when a later state comes earlier; noise of the same size repairs 25 %.",
    ),
    Case(
        "BackPatchingFinding",
        tried(-0.1),
        "63 % of the wrong answers come right when a later state comes earlier; not clearly more: noise of the same size repairs 25 %.",
    ),
    Case(
        "MissedChains",
        tried(0.2),
        "63 % of the wrong answers come right when a later state comes earlier; noise of the same size repairs 25 %.",
    ),
    Case(
        "LayerProgramsFinding",
        programs(30),
        "75 % of the wrong answers come right with the blocks in another order; the same search for another answer finds 20 %.",
    ),
    Case(
        "LayerProgramsFinding",
        programs(12),
        "30 % of the wrong answers come right with the blocks in another order; not clearly more: the same search for another answer finds 20 %.",
    ),
    Case(
        "ConceptErasureFinding",
        erased(0.04),
        "“Number” can be read at block 2 and is used: erasing it at block 2 adds 0.067 to the loss, random directions 0.006.",
    ),
    Case(
        "ConceptErasureFinding",
        erased(-0.01),
        "“Number” can be read at block 2; its use is not seen: erasing it at block 2 adds 0.067 to the loss, random directions 0.006.",
    ),
    Case(
        "PatchingFinding",
        frame(
            PATCH,
            ("denoise", block(0, "resid_pre"), "resid_pre", 0, nan, 2, "Anna", 0.9),
            ("denoise", block(1, "resid_pre"), "resid_pre", 1, nan, 5, "is", 0.8),
            ("denoise", block(0, "attn_out"), "attn_out", 0, nan, 5, "is", 0.76),
        ),
        "The answer sits at “Anna” in block 0, at “is” in block 1; the attention of block 0 at “is” restores 76 % of the answer.",
    ),
    Case(
        "PatchingFinding",
        one(PATCH, "denoise", block(0), "resid_post", 0, nan, 2, "Anna", nan),
        "The two runs do not differ in the answer, so there is nothing to restore.",
    ),
    Case(
        "CausalTracingFinding",
        one(
            PATCH + " share window clean corrupt",
            "denoise",
            block(7, "mlp_out"),
            "mlp_out",
            7,
            nan,
            5,
            "is",
            0.6,
            0.98,
            2,
            0.98,
            0.34,
        ),
        "Noise on the subject takes the answer from 98 % to 34 %; the MLP around block 7 at “is” brings back 98 % of that.",
    ),
    Case(
        "AttributionPatchingFinding",
        frame(
            PATCH + " exact",
            *(
                ("denoise", block(i, "mlp_out"), "mlp_out", i, nan, 5, "is", x, x + 0.1)
                for i, x in enumerate((0.1, 0.2, 0.33))
            ),
        ),
        "By gradients, the MLP of block 2 at “is” carries most: 33 % of the answer; against 3 real patches this is off by up to 10 %.",
    ),
    Case(
        "KnockOutFinding",
        frame(
            "flow first end value", ("last ⇸ Anna (7)", 0, 3, -0.91), ("last ⇸ 6 (1)", 0, 1, 0.0)
        ),
        "The answer loses 91 % where “last” cannot see “Anna” in blocks 0 to 2; hiding what is needed least costs 0 %.",
    ),
    Case(
        "KnockOutFinding",
        one("flow first end value", "last ⇸ Anna (7)", 0, 3, 0.02),
        "No block lowers the answer's probability where these tokens are hidden.",
    ),
    Case(
        "ErasureFinding",
        frame(
            "scope layer site value",
            ("prompts", -1, "embed", 1.4),
            ("prompts", 0, block(0), 0.9),
            ("prompts", 1, block(1), 0.01),
        ),
        "Erasing earlier tokens changes the prediction most at the embeddings, and hardly after block 0: by less than a tenth of that.",
    ),
    Case(
        "ErasureFinding",
        one("scope layer site value", "prompts", 0, block(0), 0.0),
        "Erasing tokens before the last changes the prediction at no layer.",
    ),
    Case(
        "IntegratedGradientsFinding",
        frame(
            "scope site value error",
            ("prompts", block(3), 1.22, nan),
            ("prompts", block(7), 1.0, nan),
            ("token", block(3), 0.5, 0.09),
        ),
        "By gradients, the answer hangs most on block 3 (1.2) and least on block 7 (1); not to be relied on: sums are off by 0.09.",
    ),
    Case(
        "DirectLogitsFinding",
        frame(
            "part layer value total",
            ("embed", -1, 0.1, 12.7),
            ("mlp", 6, 4.1, 12.7),
            ("mlp", 7, 4.9, 12.7),
        ),
        "The MLP of block 7 writes the largest part of the answer directly: 4.9 of a score of 13, next the MLP of block 6: 4.1.",
    ),
    Case(
        "LinearMapsFinding",
        one("source target_index value best baseline twin", block(3), 4, 0.36, True, 0.45, 0.76),
        "A linear map from block 3 misses 36 % of the other model's last layer; from the embeddings 45 %, from an untrained model 76 %.",
    ),
    Case(
        "DepthUseFinding",
        frame(
            "measure part layer value",
            *(("relative_norm", "block", i, x) for i, x in enumerate((57, 0.83, 0.7))),
        ),
        "After block 0, blocks of the first half add 83 % of the size of what they read, later ones 70 %.",
    ),
    Case(
        "LensFinding",
        frame(
            "lens measure site layer value baseline twin",
            ("logit", "agreement", "embed", -1, 0.1, 0.14, 0.2),
            ("logit", "agreement", block(0), 0, 0.54, 0.14, 0.2),
            ("logit", "agreement", block(1), 1, 1.0, 0.14, 1.0),
        ),
        "From block 0 on, half of the final predictions stand: 54 %; always saying the commonest word 14 %, an untrained model 20 %.",
    ),
    Case(
        "LensTokensFinding",
        frame(
            "position token site layer prediction final",
            (0, " is", "embed", -1, " the", " Paris"),
            (0, " is", block(0), 0, " Paris", " Paris"),
        ),
        "After “is” the model says “Paris”, settled from block 0 on; over all tokens, earlier layers agree with the last in 0 %.",
    ),
]
