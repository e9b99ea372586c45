"""`mutual_information`: how much one variable tells about another, by the estimators that can tell."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from layerscope.analyses.information.catalogue import Setting
from layerscope.analyses.information.decide import decide
from layerscope.analyses.information.given import FOLDS, Given, given, refused_site
from layerscope.analyses.information.information_finding import MutualInformationFinding
from layerscope.analyses.information.information_table import Unit, lines, table_of
from layerscope.finding import Provenance
from layerscope.probes.reading.labels import Task
from layerscope.probes.reading.rows import Plan, plan
from layerscope.probes.reading.sources import Layers, spelled
from layerscope.probes.reading.stored import stored_sites
from layerscope.probes.scoring.evaluate import check_finite
from layerscope.store import Store


def mutual_information(
    x: Any,
    y: Any,
    layer: Layers = "all",
    *,
    estimators: str | Sequence[str] | None = None,
    labels: bool | None = None,
    groups: Any = None,
    k: int = 5,
    unit: Unit = "bits",
    permutations: int = 5,
    max_rows: int = 20_000,
    seed: int = 0,
    progress: bool = True,
) -> MutualInformationFinding:
    """Estimates of I(x; y), each with null, interval and ceiling, and a verdict on them.

    The verdict is a value where the estimators that are valid for such a pair agree and have
    settled, ``unreliable`` where they do not, ``refused`` where none is valid (more than 8 joint
    dimensions, too few rows), ``proxy`` where only a Gaussian stand-in was asked for. Labels are
    read by a held-out probe, which gives a lower bound in any width.

    Args:
        x: ``[rows, width]`` or ``[rows]``: tensor, array, Series, DataFrame or list; or a store or
            its folder.
        y: The same; whole numbers and text count as labels. For a store the name of a label.
        layer: For a store: sites, as `probe` takes them.
        estimators: Names to show besides those that decide, see `catalogue.ESTIMATORS`; None shows a
            few.
        labels: Whether y is a label; None decides by its values.
        groups: ``[rows]`` what belongs together: folds, nulls and intervals keep it whole. A store
            has its own.
        k: Neighbours.
        unit: ``bits`` or ``nats``.
        permutations: Permuted pairings for the null, at least 2.
        max_rows: Above it, rows are left out at random.
        seed: Of folds, permutations, jitter and critics.
        progress: Whether to show a bar over sites.

    Returns:
        A `MutualInformationFinding`: one line for each site and estimator.

    Raises:
        LookupError: an unknown estimator, site or label.
        ValueError: sides that do not fit or hold nothing, NaN, one class, whole numbers for a
            continuous estimator, and what `probe` refuses.
    """
    started = time.perf_counter()
    _check(unit, k, permutations)
    estimators = (estimators,) if isinstance(estimators, str) else estimators
    store = _store(x)
    setting = {"k": k, "permutations": permutations, "seed": seed}
    found: list[dict[str, Any]] = []
    notes: list[str] = []
    if store is None:
        pair = given(x, y, labels=labels, groups=groups, max_rows=max_rows, seed=seed)
        pairs: Iterator[tuple[str, Given]] = iter([("x", pair)])
    else:
        pairs = _of_store(store, y, layer, labels, groups, max_rows, seed, progress, notes)
    atoms = []
    for site, pair in pairs:
        atoms += [site] if pair.atoms else []
        decided = decide(pair, estimators, Setting(**setting, groups=pair.groups))
        found += lines(site, pair, decided, y if store is not None else "")
        # Sites differ in how many ties they have; the first stands for all.
        heads = {note[:7] for note in notes}
        notes += [note for note in pair.notes if note[:7] not in heads]
    if atoms:
        notes.append(
            f"discrete, so without a check by neighbours: {', '.join(atoms)} (the probe needs no density)"
        )
    parameters = {
        "layer": spelled(layer),
        "estimators": None if estimators is None else list(estimators),
        "labels": labels,
        "groups": None if groups is None else f"{found[0]['n_groups']:,} groups",
        "unit": unit,
        "max_rows": max_rows,
        **setting,
    }
    return MutualInformationFinding(
        table=table_of(found, unit),
        provenance=_provenance(store, y, parameters, started),
        notes=tuple(notes),
    )


def _check(unit: str, k: int, permutations: int) -> None:
    if unit not in get_args(Unit):
        raise ValueError(f"unit is 'bits' or 'nats', not {unit!r}")
    if k < 1:
        raise ValueError(f"k must be at least 1 neighbour, got {k}")
    if permutations < 2:
        raise ValueError(f"permutations must be at least 2 for a spread, got {permutations}")


def _store(x: Any) -> Store | None:
    if isinstance(x, Store):
        return x
    return Store.open(x) if isinstance(x, (str, Path)) else None


def _of_store(
    store: Store,
    label: Any,
    layer: Layers,
    labels: bool | None,
    groups: Any,
    max_rows: int,
    seed: int,
    progress: bool,
    notes: list[str],
) -> Iterator[tuple[str, Given]]:
    """Every site with the same rows of the label."""
    from tqdm.auto import tqdm

    if not isinstance(label, str):
        raise ValueError(f"with a store, y is the name of a label, not {type(label).__name__}")
    if groups is not None:
        raise ValueError("a store has its own groups; leave groups=None")
    task: Task | None = None if labels is None else "class" if labels else "number"
    rows: Plan = plan(store, label, task=task, folds=FOLDS, max_rows=max_rows, seed=seed)
    notes += [*store.notes, *rows.notes]
    sites, refusals = stored_sites(store, layer), []
    for site in tqdm(sites, "mutual information", disable=not progress):
        x = store[site][rows.index]
        check_finite(site, x, rows.index)
        is_label = bool(rows.classes)
        try:
            pair = given(
                x, rows.values, labels=is_label, groups=rows.groups, max_rows=max_rows, seed=seed
            )
        except ValueError as error:  # of this site alone: the others have their values
            refusals.append(str(error))
            pair = refused_site(x, rows.values, rows.groups, is_label, str(error))
        yield site, pair
        if len(refusals) == len(sites) and site == sites[-1]:
            raise ValueError(refusals[0])


def _provenance(
    store: Store | None, y: Any, parameters: dict[str, Any], started: float
) -> Provenance:
    given_ones = parameters if parameters["groups"] is None else parameters | {"groups": "groups"}
    asked = "".join(
        f", {name}={value if name == 'groups' else repr(value)}"
        for name, value in given_ones.items()
        if name != "layer"
    )
    sides = "x, y" if store is None else f"store, {y!r}, layer={parameters['layer']!r}"
    about = {} if store is None else store.about
    return Provenance(
        model=str(about.get("model", "")),
        data="" if store is None else str(about.get("corpus", store.path.name)),
        store_key=None if store is None else store.key,
        parameters=parameters,
        seed=parameters["seed"],
        seconds=round(time.perf_counter() - started, 2),
        call=f"layerscope.analyses.mutual_information({sides}{asked})",
    )
