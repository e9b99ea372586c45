"""`label_errors`: which given labels are likely wrong, by probes that never saw their group?"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from statistics import median_low as median
from typing import TYPE_CHECKING, Any

from torch import nn

from layerscope.analyses.mistakes.confident import METHODS, SCORES, Method, Score, issues
from layerscope.analyses.mistakes.label_errors_finding import LabelErrorsFinding
from layerscope.analyses.mistakes.label_errors_table import Site, table_of
from layerscope.analyses.mistakes.planting import Planted, planted
from layerscope.analyses.mistakes.readings import Readings, readings
from layerscope.probes.reading.rows import Pieces
from layerscope.probes.reading.sources import Layers, source_of, spelled
from layerscope.probes.scoring.probabilities import Probabilities
from layerscope.probes.solving.engine import Solver
from layerscope.store import Store
from layerscope.store.origin import provenance_of

if TYPE_CHECKING:
    from layerscope.corpus import Corpus, Samples


def label_errors(
    source: nn.Module | Store | str | Path,
    data: Corpus | Samples | Any = None,
    layer: Layers = "all",
    *,
    label: str | None = None,
    method: Method = "prune_by_noise_rate",
    score: Score = "self_confidence",
    plant: float = 0.05,
    rows: str | None = None,
    pieces: Pieces = "last",
    folds: int = 5,
    max_rows: int = 20_000,
    most: int = 1000,
    solver: Solver = "auto",
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> LabelErrorsFinding:
    """Rows whose label disagrees with what a probe confidently reads off the layers.

    Confident learning (Northcutt, Jiang and Chuang 2021) on out-of-fold probabilities, folds by
    group, temperature-scaled, at every site. How much a flag is worth in these very data is
    measured: a share of the labels is changed, and looked for in the same way.

    Args:
        source: A model (its activations are extracted first, and cached), or a store or its folder.
        data: For a model: a corpus or what `layerscope.read` accepts; None takes the bundled one.
        layer: Sites, as `probe` takes them.
        label: A label of classes; None takes the only one, or ``upos``.
        method: Which rows are flagged; see `confident.issues`.
        score: What orders them, at the site that reads the label best; see `confident.quality`.
        plant: Share of the labels that is changed to measure precision and recall; 0: not measured.
        rows: Row rule for `extract`; None takes its default.
        pieces: As in `probe`.
        folds: As in `probe`.
        solver: As in `probe`.
        tokenizer: As in `probe`.
        max_rows: Above it, whole groups are left out at random.
        most: Suspicious rows in the table, the most suspicious first.
        seed: Of folds, changed labels and intervals.
        progress: Whether to show bars.

    Returns:
        A `LabelErrorsFinding`: lines for each site, for pairs of classes, and for suspicious rows.

    Raises:
        LookupError: unknown label or site.
        ValueError: an unknown method or score, a share to plant outside 0 to 0.5, and what `probe`
            refuses.
    """
    started = time.perf_counter()
    _check(method, score, plant)
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
    plan = found.plan
    changed = planted(plan.values, len(plan.classes), plant, seed=seed) if plant else None
    sites = _sites(found, method, changed, progress)
    table, notes = table_of(given.store, plan, sites, changed, method, score, most, seed)
    parameters = {
        "layer": spelled(layer),
        "label": plan.label,
        "method": method,
        "score": score,
        "plant": plant,
        "folds": folds,
        "pieces": pieces,
        "max_rows": max_rows,
    }
    said = ("label", "method", "score", "plant", "folds", "pieces", "max_rows")
    options = "".join(f", {name}={parameters[name]!r}" for name in said)
    store = given.store
    return LabelErrorsFinding(
        table=table,
        provenance=provenance_of(
            store,
            call=f"label_errors(store, layer={parameters['layer']!r}{options}, seed={seed})",
            parameters=parameters,
            seed=seed,
            started=started,
        ),
        notes=(*store.notes, *plan.notes, *notes),
    )


def _check(method: str, score: str, plant: float) -> None:
    if method not in METHODS:
        raise ValueError(f"method is one of {', '.join(METHODS)}, not {method!r}")
    if score not in SCORES:
        raise ValueError(f"score is one of {', '.join(SCORES)}, not {score!r}")
    if not 0 <= plant <= 0.5:
        raise ValueError(f"plant is a share of the labels, 0 to 0.5, not {plant}")


def _sites(found: Readings, method: Method, changed: Planted | None, progress: bool) -> list[Site]:
    given = found.plan.values
    reads = dict(found.sites("label_errors", progress))
    again: dict[str, Probabilities] = {}
    if changed is not None:
        # The penalty is that of the labels as they are: what is chosen again hardly differs.
        l2 = median(one for read in reads.values() for one in read.penalties)
        plan = replace(found.plan, values=changed.codes)
        other = replace(found, plan=plan, l2=l2)
        again = dict(other.sites("label_errors (changed labels)", progress))
    return [
        Site(site, read, issues(read.values, given, method=method), again.get(site))
        for site, read in reads.items()
    ]
