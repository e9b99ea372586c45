"""`evaluate`: how well a sparse autoencoder reconstructs, at what price, beside what is simpler."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from layerscope.analyses.sae.measuring.behaviour_lines import behaviour_lines
from layerscope.analyses.sae.measuring.detection import Detection
from layerscope.analyses.sae.measuring.dictionary_lines import dictionary_lines, matches
from layerscope.analyses.sae.measuring.label_lines import (
    absorption_lines,
    probed_rows,
    probing_lines,
)
from layerscope.analyses.sae.measuring.measured_rows import MeasuredRows, measured_rows
from layerscope.analyses.sae.measuring.passes import accumulated, moments_of, with_baselines
from layerscope.analyses.sae.measuring.sae_finding import SAEFinding
from layerscope.analyses.sae.measuring.sae_notes import row_notes, unlike_training
from layerscope.analyses.sae.measuring.sae_table import (
    Line,
    density_lines,
    point_lines,
    row_lines,
    table_of,
)
from layerscope.analyses.sae.sae import SAE
from layerscope.finding import Provenance
from layerscope.probes.reading.rows import Plan


def evaluate(
    sae: SAE,
    data: Any,
    *,
    site: str | int | None = None,
    target: str | int | None = None,
    model: nn.Module | None = None,
    corpus: Any = None,
    tokenizer: Any = None,
    label: str | None = None,
    reference: Tensor | None = None,
    features: Tensor | None = None,
    signed: bool = False,
    rows: int = 1_000_000,
    tokens: int = 100_000,
    baselines: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> SAEFinding:
    """Reconstruction, sparsity, norms and directions of an SAE, and what it keeps of the model.

    Beside every measure stands that of a random dictionary with as many latents and the same L0, and
    of as many principal components as the L0, both fitted to the same rows.

    Args:
        sae: Any SAE, transcoder or crosscoder.
        data: A store or its folder, rows ``[rows, d]``, ``{site: [rows, width]}``, or a model with
            `corpus`, whose activations are extracted into the cache first.
        site: What the SAE reads; None: where it was trained.
        target: What it reconstructs; None: the same, or where it was trained.
        model: To see the cross-entropy with the reconstruction in place of the activation.
        corpus: Texts for that; None takes those of the store.
        tokenizer: None takes the model's own.
        label: A label of the store: sparse probing. Absorption of first letters is measured where
            rows are tokens, with or without it.
        reference: Planted directions ``[known, d_out]``: MCC, MMCS, uniqueness.
        features: Planted features ``[rows of the data, known]``, not 0 where they are there:
            precision, recall and F1 of the latents that are matched with `reference`.
        signed: Whether opposite directions count as different from `reference`.
        rows: At most so many rows, drawn at random.
        tokens: The model reads texts of about so many tokens, drawn at random.
        baselines: Whether to measure random dictionary and PCA.
        seed: Of draws, random directions, intervals.
        progress: Whether to show bars.

    Returns:
        An `SAEFinding`: a line for each measure.

    Warns:
        UserWarning: the rows' statistics are not those of the rows it was trained on.

    Raises:
        LookupError: an unknown site or label.
        TypeError: data of another kind.
        ValueError: widths that do not fit, no rows, rows that are all the same, NaN (with site, row
            and text), `features` that do not fit.
    """
    started = time.perf_counter()
    if isinstance(data, nn.Module):
        model = data if model is None else model
    _check(rows, tokens)
    found = measured_rows(
        sae, data, site=site, target=target, corpus=corpus, rows=rows, seed=seed, progress=progress
    )
    _check_planted(found, reference, features)
    probed = None if label is None else probed_rows(found, label, seed=seed)
    with torch.no_grad():
        lines, notes = _measured(
            sae, found, model, corpus, tokenizer, label, probed, reference, features,
            signed=signed, tokens=tokens, baselines=baselines, seed=seed, progress=progress,
        )  # fmt: skip
    parameters = {
        "site": found.site,
        "target": found.target,
        "label": label,
        "rows": rows,
        "tokens": tokens,
        "baselines": baselines,
        "latents": sae.n_latents,
        "width": sae.d_out,
        "sae": repr(sae),
    }
    return SAEFinding(
        table=table_of(lines),
        provenance=_provenance(found, parameters, seed, started),
        notes=tuple(dict.fromkeys(notes)),
    )


def _measured(
    sae: SAE,
    rows: MeasuredRows,
    model: nn.Module | None,
    corpus: Any,
    tokenizer: Any,
    label: str | None,
    probed: Plan | None,
    reference: Tensor | None,
    features: Tensor | None,
    *,
    signed: bool,
    tokens: int,
    baselines: bool,
    seed: int,
    progress: bool,
) -> tuple[list[Line], list[str]]:
    moments = moments_of(rows, sae.W_enc.device)
    notes = [*(rows.store.notes if rows.store is not None else ()), *rows.notes]
    unlike = unlike_training(sae, rows, moments)
    if unlike:
        warnings.warn(unlike, stacklevel=4)  # where evaluate was called
        notes.append(unlike)
    candidates = with_baselines(sae, rows, moments, baselines=baselines, seed=seed)
    matched = matches(candidates, reference, signed=signed)
    detections = (
        {name: Detection(one.latent) for name, one in matched.items()}
        if features is not None else {}
    )  # fmt: skip
    sums, points = accumulated(
        candidates, rows, moments.mean_y, detections, features, seed=seed, progress=progress
    )
    lines = row_lines(sums, rows.n_groups, seed=seed)
    lines += dictionary_lines(candidates, sums, moments, matched, detections)
    lines += [*density_lines(sums), *point_lines(points)]
    if label is not None and probed is not None:
        notes += probed.notes
        lines += probing_lines(candidates, rows, probed, label, seed=seed)
    lines += absorption_lines(candidates, rows, notes, seed=seed)
    lines += behaviour_lines(
        candidates, rows, moments, model, corpus, tokenizer, notes,
        tokens=tokens, seed=seed, progress=progress,
    )  # fmt: skip
    notes += row_notes(sae, sums, rows)
    return lines, notes


def _check(rows: int, tokens: int) -> None:
    for name, value in (("rows", rows), ("tokens", tokens)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _check_planted(rows: MeasuredRows, reference: Tensor | None, features: Tensor | None) -> None:
    if features is None:
        return
    count = len(rows.x[0])
    wanted = None if reference is None else (count, len(reference))
    if reference is None or tuple(features.shape) != wanted:
        raise ValueError(
            f"features {list(features.shape)} must be [rows of the data, number of reference "
            f"directions]{'' if wanted is None else f', {list(wanted)}'}, and need reference="
        )


def _provenance(
    rows: MeasuredRows, parameters: dict[str, Any], seed: int, started: float
) -> Provenance:
    about = {} if rows.store is None else rows.store.about
    name = "" if rows.store is None else str(about.get("corpus", rows.store.path.name))
    asked = f", site={rows.site!r}" if rows.site else ""
    asked += f", target={rows.target!r}" if rows.target != rows.site else ""
    asked += f", label={parameters['label']!r}" if parameters["label"] else ""
    return Provenance(
        model=str(about.get("model", "")),
        data=f"{name}, {len(np.asarray(rows.index)):,} rows".removeprefix(", "),
        store_key=None if rows.store is None else rows.store.key,
        parameters=parameters | {"seed": seed},
        seed=seed,
        seconds=round(time.perf_counter() - started, 2),
        call=f"layerscope.analyses.sae.evaluate(sae, data{asked}, seed={seed})",
    )
