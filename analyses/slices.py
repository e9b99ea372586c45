"""`slices`: where does the readout of a label fail, and is that more than chance?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from layerscope.analyses.mistakes.readings import readings
from layerscope.analyses.mistakes.slices_finding import SlicesFinding
from layerscope.analyses.mistakes.slices_halves import LEAST, halves
from layerscope.analyses.mistakes.slices_table import table_of
from layerscope.probes.reading.rows import Pieces
from layerscope.probes.reading.sources import Layers, source_of, spelled
from layerscope.probes.solving.engine import Solver
from layerscope.store import Store
from layerscope.store.origin import provenance_of

if TYPE_CHECKING:
    from layerscope.corpus import Corpus, Samples


def slices(
    source: nn.Module | Store | str | Path,
    data: Corpus | Samples | Any = None,
    layer: Layers = "all",
    *,
    label: str | None = None,
    columns: Sequence[str] | None = None,
    clusters: int = 8,
    most: int = 20,
    rows: str | None = None,
    pieces: Pieces = "last",
    folds: int = 5,
    max_rows: int = 20_000,
    solver: Solver = "auto",
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> SlicesFinding:
    """Groups of rows on which a probe of `label` errs more than elsewhere.

    Errors are those of out-of-fold predictions. Slices are found on one half of the groups and
    measured on the other: values of the rows' columns, clusters of the errors' activations, and for
    each class the direction from its errors to its hits (LADDER, Ghosh et al. 2025, without the
    language model).

    Args:
        source: A model (its activations are extracted first, and cached), or a store or its folder.
        data: For a model: a corpus or what `layerscope.read` accepts; None takes the bundled one.
        layer: Sites, as `probe` takes them; slices are found at each on its own.
        label: A label of classes; None takes the only one, or ``upos``.
        columns: Of the rows, whose values are tried as slices; None: every column of few values,
            and position, length of word and text, and how often the word occurs.
        clusters: Of errors, by k-means.
        most: Slices of columns in the table, for each site; those that failed most on the first half.
        rows: Row rule for `extract`; None takes its default.
        pieces: As in `probe`.
        folds: As in `probe`.
        solver: As in `probe`.
        tokenizer: As in `probe`.
        max_rows: Above it, whole groups are left out at random.
        seed: Of folds, halves, k-means and intervals.
        progress: Whether to show bars.

    Returns:
        A `SlicesFinding`: one line for each slice and direction.

    Raises:
        LookupError: unknown label, site or column.
        ValueError: fewer than 30 errors in a half, and what `probe` refuses.
    """
    started = time.perf_counter()
    if clusters < 2:
        raise ValueError(f"clusters must be at least 2, got {clusters}")
    given = source_of(
        source,
        layer,
        data,
        label=label,
        rows=rows,
        tokenizer=tokenizer,
        seed=seed,
        progress=progress,
    )
    found = readings(
        given, label, pieces=pieces, folds=folds, max_rows=max_rows, seed=seed, solver=solver
    )
    split = halves(found.plan, seed)
    reads = dict(found.sites("slices", progress))
    table, notes = table_of(given.store, found.plan, split, reads, columns, clusters, most, seed)
    store, plan = given.store, found.plan
    parameters = {
        "layer": spelled(layer),
        "label": plan.label,
        "columns": None if columns is None else list(columns),
        "clusters": clusters,
        "most": most,
        "least": LEAST,
        "folds": folds,
        "pieces": pieces,
    }
    said = ("label", "columns", "clusters", "most", "folds", "pieces")
    options = "".join(f", {name}={parameters[name]!r}" for name in said)
    return SlicesFinding(
        table=table,
        provenance=provenance_of(
            store,
            call=f"slices(store, layer={parameters['layer']!r}{options}, seed={seed})",
            parameters=parameters,
            seed=seed,
            started=started,
        ),
        notes=(*store.notes, *plan.notes, *notes),
    )
