"""A label, read from each site by one kind of probe: the table, and what a reader must know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from layerscope.hooks.sites import layer_of
from layerscope.probes.evaluate import Measurement
from layerscope.probes.finding import COLUMNS, ProbeFinding
from layerscope.probes.kinds import label_kind
from layerscope.probes.kinds.kind import Asked, Kind
from layerscope.probes.parallel import side_by_side
from layerscope.probes.provenance import provenance
from layerscope.probes.rows import Plan, plan
from layerscope.probes.sources import Source

if TYPE_CHECKING:
    import pandas as pd


def measure_label(source: Source, kind: Kind, asked: Asked) -> ProbeFinding:
    """Cross-validated scores of one label at every site.

    Raises:
        ValueError: the label is of a task that this kind cannot do, or see `rows.plan`.
    """
    store = source.store
    chosen = plan(
        store,
        asked.label,
        task=asked.task,
        pieces=asked.pieces,
        folds=asked.folds,
        max_rows=asked.max_rows,
        seed=asked.seed,
    )
    reader = label_kind(kind, chosen.task)
    measured = Measurement(
        chosen,
        reader,
        solver=asked.solver,
        device=asked.device,
        seed=asked.seed,
        control=asked.control,
    )
    lines = _lines(measured, source, asked.progress)
    found = {"label": chosen.label, "task": chosen.task, "solver": _solvers(lines)}
    return ProbeFinding(
        table=_table(lines, measured),
        provenance=provenance(source, kind, asked, **found),
        notes=(*store.notes, *chosen.notes, *_cautions(chosen, measured, lines)),
    )


def _lines(measured: Measurement, source: Source, progress: bool) -> list[dict[str, Any]]:
    from tqdm.auto import tqdm

    index = measured.plan.index

    def line(site: str) -> dict[str, Any]:
        found = measured.score(site, source.store[site][index])
        if source.twin is not None:
            found |= measured.twin(site, source.twin[site][index])
        return {"site": site, "layer": layer_of(site), **found}

    width = max(source.store.sites[site].width for site in source.sites)
    # float32 rows twice (as read, as standardised) and the second moments of each fold.
    taken = 8 * width * (len(index) + measured.plan.folds * width)
    lines = side_by_side(line, source.sites, item_bytes=taken)
    name = f"probe {measured.plan.label}"
    total = len(source.sites)
    return list(tqdm(lines, name, total, unit="site", disable=not progress))


def _table(lines: list[dict[str, Any]], measured: Measurement) -> pd.DataFrame:
    import pandas as pd

    chosen = measured.plan
    classes = chosen.task == "class"
    shared = {
        "label": chosen.label,
        "n": len(chosen.index),
        "n_groups": int(chosen.groups.max()) + 1,
        "n_classes": len(chosen.classes) if classes else pd.NA,
        "unit": "accuracy" if classes else "R2",
        "estimator": measured.kind.estimator(chosen.task),
    }
    table = pd.DataFrame([line | shared for line in lines])
    table["layer"] = table["layer"].astype("Int64")
    table["n_classes"] = table["n_classes"].astype("Int64")
    return table[[column for column in COLUMNS if column in table]]


def _cautions(chosen: Plan, measured: Measurement, lines: Sequence[dict[str, Any]]) -> list[str]:
    """What a reader of this table must know."""
    notes = [f"{measured.kind.rule}; {_solvers(lines)}"]
    train, width = len(chosen.index) * (chosen.folds - 1) // chosen.folds, lines[0]["width"]
    if train < 2 * width:
        notes.append(
            f"{train:,} training rows for {width:,} features: below two rows a feature a linear "
            "probe can separate random labels, so trust selectivity, not accuracy"
        )
    groups = int(chosen.groups.max()) + 1
    if groups < 20:
        notes.append(f"intervals rest on {groups} groups only, and are likely too narrow")
    if measured.control and chosen.types is None:
        notes.append("no control task: rows are not words, so there are no word types")
    unfinished = sum(line["unfinished"] for line in lines)
    if unfinished:
        notes.append(f"{unfinished} probes stopped before they had converged")
    best = max(lines, key=lambda line: line["value"])
    if best.get("selectivity", 1.0) < 0.1 * max(best["value"], 0):
        notes.append(
            f"the best probe does nearly as well on random labels per word "
            f"({best['control']:.3f}): it may know the words, not the label"
        )
    notes.append("a probe shows what can be read off a layer, not what the model uses")
    return notes


def _solvers(lines: Sequence[dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(line["solver"] for line in lines))
