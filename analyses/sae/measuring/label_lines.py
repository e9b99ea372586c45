"""Lines that need to know what rows are: sparse probing of a label, absorption of first letters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from layerscope.analyses.sae.measuring.coded_rows import Coder
from layerscope.analyses.sae.measuring.first_letters import (
    LEAST_F1,
    first_letters,
    letter_absorption,
    letter_probes,
    summary,
)
from layerscope.analyses.sae.measuring.measured_rows import MeasuredRows
from layerscope.analyses.sae.measuring.sae_table import NAN, Line
from layerscope.analyses.sae.measuring.sparse_probing import (
    FOLDS,
    KS,
    Probed,
    full_probe,
    sparse_probing,
)
from layerscope.analyses.sae.sae import SAE
from layerscope.probes.reading.rows import Plan, plan

PROBED_ROWS = 10_000
WIDEST = 1024
"""Dimensions up to which the probe on all of them is fitted."""


def probed_rows(rows: MeasuredRows, label: str, *, seed: int) -> Plan:
    """The rows that `probing_lines` fits on, and their classes; reads no activations.

    Raises:
        LookupError: no such label.
        ValueError: the data are no store, or what `probe` refuses.
    """
    if rows.store is None:
        raise ValueError(
            f"label={label!r} needs a store, whose rows have labels; "
            "extract(model, corpus, site) makes one"
        )
    return plan(rows.store, label, task="class", folds=FOLDS, max_rows=PROBED_ROWS, seed=seed)


def probing_lines(
    candidates: Mapping[str, SAE], rows: MeasuredRows, chosen: Plan, label: str, *, seed: int
) -> list[Line]:
    """Balanced accuracy of probes on 1, 2 and 5 latents, and on as many single dimensions."""
    sae = candidates["sae"]
    device = sae.W_enc.device
    coders: dict[str, tuple[Coder, int]] = {
        name: (one.encode, one.n_latents) for name, one in candidates.items()
    }
    coders["residual"] = (lambda x: x, sae.d_in)
    found = sparse_probing(rows, chosen, coders, device, seed=seed)
    ceiling = NAN
    if sae.d_in <= WIDEST:
        ceiling = full_probe(rows, chosen, coders["residual"][0], sae.d_in, device, seed=seed).value
    groups = len(np.unique(chosen.groups[: chosen.bounds[1]]))
    return [_probing_line(found, k, label, ceiling, groups) for k in KS]


def _probing_line(
    found: Mapping[tuple[str, int], Probed], k: int, label: str, ceiling: float, groups: int
) -> Line:
    one = found["sae", k]
    nothing = NAN
    return Line(
        key=f"probing_{k}",
        measure=f"balanced accuracy of {label} from {k} latent{'s' * (k > 1)}, mean over classes",
        group="probing",
        value=one.value,
        ci_low=one.low,
        ci_high=one.high,
        random=found["random", k].value if ("random", k) in found else nothing,
        pca=found["pca", k].value if ("pca", k) in found else nothing,
        baseline=found["residual", k].value,
        ceiling=ceiling,
        null_mean=one.null_mean,
        null_sd=one.null_sd,
        n=one.n,
        n_groups=groups,
        unit="balanced accuracy",
        estimator="logistic regression, held-out texts",
        x=float(k),
        part=label,
    )


def absorption_lines(
    candidates: Mapping[str, SAE], rows: MeasuredRows, notes: list[str], *, seed: int
) -> list[Line]:
    """Absorption of first letters, over letters and for each; none where rows are no tokens."""
    store, sae = rows.store, candidates["sae"]
    if store is None or sae.d_in != sae.d_out or rows.site != rows.target or sae.parts:
        return []
    if "char_start" not in store.rows or "token" not in store.rows:
        return []
    letters = first_letters(store, seed=seed)
    if not len(letters.index):
        return []
    probes = letter_probes(rows, letters, sae.d_in, sae.W_enc.device, seed=seed)
    found = {
        name: letter_absorption(rows, letters, one, probes) for name, one in candidates.items()
    }
    means = {name: summary(one, seed=seed) for name, one in found.items()}
    kept = found["sae"]
    there = len(np.unique(letters.codes))
    if len(probes.letters) < there:
        notes.append(
            f"a linear probe finds {len(probes.letters)} of {there} first letters in unseen tokens with an F1 "
            f"of {LEAST_F1} or more; absorption is measured for these"
        )
    if kept:
        notes.append(
            "absorption was designed for models above 1 billion parameters and 16,000 latents"
        )
    lines = [_absorption_line(key, what, means) for key, what in _WHAT.items()]
    lines += [
        Line(
            key=f"letter_{one.letter}",
            measure=f"absorption fraction of first letter {one.letter}",
            group="letters",
            value=float(one.fraction.mean()),
            n=len(one.fraction),
            unit="share",
            estimator=f"{len(one.split)} split latents: {', '.join(map(str, one.split))}",
            part=one.letter,
        )
        for one in kept
    ]
    return lines


_WHAT = {
    "fraction": "absorption fraction of first letters, of the probe's direction a / (a + M)",
    "full": "full absorption of first letters, share of rows with every split latent silent",
}


def _absorption_line(
    key: str, what: str, means: Mapping[str, Mapping[str, tuple[float, float, float, int]]]
) -> Line:
    value, low, high, n = means["sae"][key]
    return Line(
        key=f"absorption_{key}",
        measure=what,
        group="absorption",
        value=value,
        ci_low=low,
        ci_high=high,
        random=means["random"][key][0] if "random" in means else NAN,
        pca=means["pca"][key][0] if "pca" in means else NAN,
        n=n,
        unit="share",
        estimator="held-out tokens",
    )
