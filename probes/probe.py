"""`probe`: what can be read off each layer, beside what that is worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from layerscope.probes.finding import ProbeFinding
from layerscope.probes.kinds import as_kind
from layerscope.probes.kinds.kind import Asked, Kind, LabelKind, SourceKind
from layerscope.probes.reading.labels import Task
from layerscope.probes.reading.rows import Pieces
from layerscope.probes.reading.sources import Layers, source_of
from layerscope.probes.scoring.by_site import measure_label
from layerscope.probes.solving.engine import Solver
from layerscope.store import Store

if TYPE_CHECKING:
    from layerscope.corpus import Corpus, Samples


def probe(
    model_or_store: nn.Module | Store | str | Path,
    layer: Layers = "all",
    data: Corpus | Samples | Any = None,
    *,
    label: str | Sequence[str] | None = None,
    kind: str | Kind = "linear",
    task: Task | None = None,
    twin: bool | Store = False,
    control: bool = True,
    rows: str | None = None,
    pieces: Pieces = "last",
    tokenizer: Any = None,
    folds: int = 5,
    seed: int = 0,
    solver: Solver = "auto",
    device: str | None = None,
    max_rows: int = 50_000,
    progress: bool = True,
) -> ProbeFinding:
    """How well a probe reads a label off each layer, cross-validated by group.

    Args:
        model_or_store: A model (its activations are extracted first, and cached), or a store or
            its folder.
        layer: An int, a site, a pattern, a list of these, or ``"all"``: every ``resid_post``,
            and ``embed`` as the baseline of the input where there is one.
        data: For a model: a corpus or what `layerscope.read` accepts; None takes the bundled one.
        label: Column to predict; None takes the only one, or ``upos``. A list of columns gives
            one table with lines for each; those on the same rows share them and their folds.
        kind: ``"linear"``: multinomial logistic regression for classes, ridge for numbers; or
            another of `layerscope.probes.kinds`, by name or as an instance with options.
        task: ``"class"`` or ``"number"``; None decides by the values.
        twin: True also probes the same architecture with fresh weights, on the same rows; with a
            store, give the twin's store.
        control: Whether to train the control task (random labels per word type) as well.
        rows: Row rule for `extract`; None takes its default.
        pieces: Which piece stands for a word that was cut: ``"last"``, ``"first"`` or ``"all"``.
        tokenizer: For `extract`; None takes the model's own.
        folds: At least 3; no group is in two.
        seed: Of folds, control task, intervals, row choice and twin.
        solver: ``"sklearn"``, ``"torch"``, or ``"auto"``: by size and device.
        device: Where the torch solver runs; None takes CUDA where there is one.
        max_rows: Above it, whole groups are left out at random.
        progress: Whether to show bars.

    Returns:
        A `ProbeFinding`, one line per site and label.

    Raises:
        LookupError: unknown label or site, with the nearest names.
        ValueError: a kind that reads one label given several; a label with one class, with classes too rare for the folds, or missing
            everywhere; too few groups; activations that are NaN or infinite.
    """
    started = time.perf_counter()
    chosen_kind = as_kind(kind)
    _check_labels(label, chosen_kind)
    source = source_of(
        model_or_store,
        layer,
        data,
        twin,
        label=label,
        labelled=not isinstance(chosen_kind, SourceKind) or chosen_kind.needs_label,
        further=chosen_kind.further_label() if isinstance(chosen_kind, LabelKind) else None,
        whole_texts=isinstance(chosen_kind, SourceKind) and chosen_kind.whole_texts,
        rows=rows or (chosen_kind.rows if isinstance(model_or_store, nn.Module) else None),
        tokenizer=tokenizer,
        seed=seed,
        progress=progress,
    )
    labels = () if label is None or isinstance(label, str) else tuple(label)
    asked = Asked(
        layer=layer,
        label=_one(label),
        task=task,
        control=control,
        pieces=pieces,
        folds=folds,
        seed=seed,
        solver=solver,
        device=device,
        max_rows=max_rows,
        progress=progress,
        labels=labels if len(labels) > 1 else (),
    )
    if isinstance(chosen_kind, SourceKind):
        finding = chosen_kind.measure(source, asked)
    else:
        finding = measure_label(source, chosen_kind, asked)
    seconds = round(time.perf_counter() - started, 2)
    return replace(finding, provenance=replace(finding.provenance, seconds=seconds))


def _check_labels(label: str | Sequence[str] | None, kind: Kind) -> None:
    if label is None or isinstance(label, str):
        return
    if not label:
        raise ValueError("no labels asked for: give a column, a list of them, or None")
    if len(label) > 1 and isinstance(kind, SourceKind):
        raise ValueError(
            f"kind={kind.name!r} reads one label at a time, not {', '.join(map(repr, label))}"
        )


def _one(label: str | Sequence[str] | None) -> str | None:
    """The label, or the first of several."""
    return label if label is None or isinstance(label, str) else label[0]
