"""`probe`: what can be read off each layer by a linear readout, beside what that is worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from layerscope.finding import Provenance
from layerscope.hooks.sites import layer_of
from layerscope.probes.engine import Solver
from layerscope.probes.evaluate import Measurement
from layerscope.probes.finding import COLUMNS, ProbeFinding
from layerscope.probes.labels import Task
from layerscope.probes.parallel import side_by_side
from layerscope.probes.rows import Pieces, Plan, plan
from layerscope.probes.sources import Layers, Source, from_model, from_store
from layerscope.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.corpus import Corpus, Samples


def probe(
    model_or_store: nn.Module | Store | str | Path,
    layer: Layers = "all",
    data: Corpus | Samples | Any = None,
    *,
    label: str | None = None,
    kind: Literal["linear"] = "linear",
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
    """How well a linear probe reads a label off each layer, cross-validated by group.

    Args:
        model_or_store: A model (its activations are extracted first, and cached), or a store or
            its folder.
        layer: An int, a site, a pattern, a list of these, or ``"all"``: every ``resid_post``,
            and ``embed`` as the baseline of the input where there is one.
        data: For a model: a corpus or what `layerscope.read` accepts; None takes the bundled one.
        label: Column to predict; None takes the only one, or ``upos``.
        kind: ``"linear"``: multinomial logistic regression for classes, ridge for numbers.
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
        A `ProbeFinding`, one line per site.

    Raises:
        LookupError: unknown label or site, with the nearest names.
        ValueError: a label with one class, with classes too rare for the folds, or missing
            everywhere; too few groups; activations that are NaN or infinite.
    """
    started = time.perf_counter()
    if kind != "linear":
        raise ValueError(f"kind {kind!r}: there is only 'linear'")
    if isinstance(model_or_store, nn.Module):
        source = from_model(
            model_or_store,
            layer,
            data,
            twin,
            label=label,
            rows=rows,
            tokenizer=tokenizer,
            seed=seed,
            progress=progress,
        )
    else:
        source = from_store(model_or_store, layer, data, twin)
    store = source.store
    chosen = plan(store, label, task=task, pieces=pieces, folds=folds, max_rows=max_rows, seed=seed)
    measured = Measurement(chosen, solver=solver, device=device, seed=seed, control=control)
    lines = _lines(measured, source, progress)
    parameters = {
        "layer": layer if isinstance(layer, (int, str)) else list(layer),
        "label": chosen.label,
        "kind": kind,
        "task": chosen.task,
        "folds": folds,
        "pieces": pieces,
        "control": control,
        "twin": bool(twin),
        "solver": _solvers(lines),
        "max_rows": max_rows,
    }
    return ProbeFinding(
        table=_table(lines, chosen),
        provenance=Provenance(
            model=str(store.about.get("model", "")),
            data=str(store.about.get("corpus", store.path.name)),
            store_key=store.key,
            call=_call(parameters, seed),
            parameters=parameters,
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
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


def _table(lines: list[dict[str, Any]], chosen: Plan) -> pd.DataFrame:
    import pandas as pd

    logistic = chosen.task == "class"
    shared = {
        "label": chosen.label,
        "n": len(chosen.index),
        "n_groups": int(chosen.groups.max()) + 1,
        "n_classes": len(chosen.classes) if logistic else pd.NA,
        "unit": "accuracy" if logistic else "R2",
        "estimator": "multinomial logistic, L2" if logistic else "ridge",
    }
    table = pd.DataFrame([line | shared for line in lines])
    table["layer"] = table["layer"].astype("Int64")
    table["n_classes"] = table["n_classes"].astype("Int64")
    return table[[column for column in COLUMNS if column in table]]


def _call(parameters: dict[str, Any], seed: int) -> str:
    """The line that measures this again on the same store."""
    said = ("label", "task", "folds", "pieces", "max_rows")
    options = "".join(f", {name}={parameters[name]!r}" for name in said)
    return f"layerscope.probe(store, {parameters['layer']!r}{options}, seed={seed})"


def _cautions(chosen: Plan, measured: Measurement, lines: Sequence[dict[str, Any]]) -> list[str]:
    """What a reader of this table must know."""
    chosen_by = "the penalty of each fold by another fold of its training rows"
    notes = [
        f"features standardised on training rows; {chosen_by}; {_solvers(lines)}",
    ]
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
