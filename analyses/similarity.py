"""`similarity`: how alike the rows of two layers lie, within a model, between two, over training."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from layerscope.analyses.resemblance.cells import MEASURES, Cell, Matrices, Pair, cells
from layerscope.analyses.resemblance.matching import Matched, matched
from layerscope.analyses.resemblance.places import Options, Place, matrices
from layerscope.analyses.resemblance.sides import Asked, Given, Side, sides_of
from layerscope.analyses.resemblance.similarity_finding import COLUMNS, SimilarityMapFinding
from layerscope.analyses.resemblance.similarity_notes import cautions
from layerscope.corpus.names import nearest
from layerscope.finding import Provenance
from layerscope.hooks.sites import layer_of
from layerscope.probes.reading.sources import Layers, Source, spelled
from layerscope.store import Store

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = ("cka", "cka_biased", "rsa", "knn")


def similarity(
    a: Given | Sequence[Given] | Mapping[Any, Given],
    b: Given | None = None,
    data: Any = None,
    layer: Layers = "all",
    *,
    measures: str | Sequence[str] = DEFAULT,
    layer_b: Layers | None = None,
    twin: bool | Store = False,
    rows: str | None = None,
    max_rows: int = 2000,
    k: int = 10,
    bandwidth: float = 0.4,
    draws: int = 5,
    tokenizer: Any = None,
    device: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> SimilarityMapFinding:
    """Compare the rows of every pair of layers: of one model, of two, or of checkpoints of a run.

    Measures (`measures`, or ``"all"``): ``cka`` (unbiased), ``cka_biased``, ``cka_minibatch`` (all
    rows), ``cka_rbf``, ``cca``, ``svcca``, ``pwcca``, ``procrustes``, ``shape_angle``, ``rsa``,
    ``rsa_cosine``, ``knn``, ``ridge``. Each value stands beside what it would be if the rows of one
    side were in random order, which for several measures is far from 0 where rows are few.

    Args:
        a: A model, a store, or the folder of either. A list of them, or a dict of names and them,
            are checkpoints of one run, put into the order of their steps where names have numbers: each
            layer is compared with itself in the last.
        b: Another one, whose layers are compared with those of `a`; None compares within `a`.
        data: For models: what `layerscope.read` takes; None takes the bundled corpus.
        layer: Sites, as `probe` takes them.
        layer_b: Sites of `b`, where they are others.
        twin: With one model: True also compares the layers of the same architecture with fresh
            weights; or a store of the twin with the same rows.
        rows: Row rule for `extract`; None takes words where the tokenizers of two models differ.
        max_rows: At most so many rows, at random, the same everywhere; `cka_minibatch` takes all.
        k: Neighbours of ``knn``.
        bandwidth: Of ``cka_rbf``, in median distances.
        draws: Random orders of the rows for ``procrustes``, ``shape_angle`` and ``ridge``; the other
            nulls are closed forms.
        tokenizer: For models; None takes each one's own.
        device: None takes CUDA where there is one.
        seed: Of samples, draws and the twin.
        progress: Whether to show bars.

    Returns:
        A `SimilarityMapFinding`: one line per measure and pair of sites.

    Raises:
        LookupError: a site that is not there.
        TypeError: texts where a model or store belongs.
        ValueError: an unknown measure, rows that are not the same, a model beside a store without
            data, too few rows, NaN or infinite activations.
    """
    started = time.perf_counter()
    wanted = _measures(measures)
    options = Options(wanted, max_rows, k, bandwidth, draws, device, seed, progress)
    asked = Asked(data, layer, rows, tokenizer, seed, progress)
    part, sides = sides_of(a, b, asked, layer_b=layer_b, twin=twin)
    compare = {"within": _within, "between": _between, "steps": _steps}[part]
    table, found = compare(sides, options)
    table.insert(0, "part", part)
    return SimilarityMapFinding(
        table=table[[column for column in COLUMNS if column in table]],
        provenance=_provenance(sides, options, layer, part, started),
        notes=(
            *_store_notes(sides),
            *found.notes,
            *cautions(table, options.max_rows, len(found)),
        ),
    )


def _measures(asked: str | Sequence[str]) -> tuple[str, ...]:
    if asked == "all":
        return tuple(MEASURES)
    names = (asked,) if isinstance(asked, str) else tuple(asked)
    unknown = [name for name in names if name not in MEASURES]
    if unknown or not names:
        wrong = unknown[0] if unknown else ""
        raise ValueError(f"measure {wrong!r} is unknown; {nearest(wrong, MEASURES)}, or 'all'")
    return names


def _within(sides: Sequence[Side], options: Options) -> tuple[pd.DataFrame, Matched]:
    side = sides[0]
    found = matched([side.store], [side.name])
    table = _map(side, side, found, options)
    if side.source.twin is not None:
        twin = Side(side.name, Source(side.source.twin, side.source.sites))
        theirs = _map(twin, twin, found, options)
        names = {"value": "twin", "ci_low": "twin_low", "ci_high": "twin_high"}
        keys = ["measure", "site", "other_site"]
        table = table.merge(theirs[[*keys, *names]].rename(columns=names), how="left", on=keys)
    return table, found


def _between(sides: Sequence[Side], options: Options) -> tuple[pd.DataFrame, Matched]:
    found = matched([side.store for side in sides], [side.name for side in sides])
    return _map(sides[0], sides[1], found, options), found


def _map(a: Side, b: Side, found: Matched, options: Options) -> pd.DataFrame:
    """Every site of one side against every site of the other."""
    places = [Place(a.name, a.store, site, found.index[0]) for site in a.source.sites]
    count = len(places)
    if a is not b:
        places += [Place(b.name, b.store, site, found.index[1]) for site in b.source.sites]
    others = range(count) if a is b else range(count, len(places))
    pairs = [(i, j) for i in range(count) for j in others]
    return _measured(places, pairs, found, options, "similarity")


def _steps(sides: Sequence[Side], options: Options) -> tuple[pd.DataFrame, Matched]:
    """Each site of each checkpoint against the same site of the last."""
    import pandas as pd

    found = matched([side.store for side in sides], [side.name for side in sides])
    sites = sides[-1].source.sites
    for side in sides:
        missing = [site for site in sites if site not in side.store.sites]
        if missing:
            raise LookupError(f"{side.name} has no {', '.join(missing)}, which the last has")
    tables = []
    for site in sites:
        places = [
            Place(side.name, side.store, site, index)
            for side, index in zip(sides, found.index, strict=True)
        ]
        pairs = [(i, len(sides) - 1) for i in range(len(sides) - 1)]
        tables.append(_measured(places, pairs, found, options, site))
    return pd.concat(tables, ignore_index=True), found


def _measured(
    places: Sequence[Place],
    pairs: Sequence[Pair],
    found: Matched,
    options: Options,
    name: str,
) -> pd.DataFrame:
    import pandas as pd
    from tqdm.auto import tqdm

    data = matrices(places, found, options)
    lines: list[dict[str, Any]] = []
    for measure in tqdm(options.measures, name, unit="measure", disable=not options.progress):
        for (i, j), cell in zip(pairs, cells(measure, data, pairs), strict=True):
            lines.append(_line(measure, places[i], places[j], cell, data))
    table = pd.DataFrame(lines)
    for column in ("layer", "other_layer"):
        table[column] = table[column].astype("Int64")
    return table


def _line(measure: str, a: Place, b: Place, cell: Cell, data: Matrices) -> dict[str, Any]:
    kind = MEASURES[measure]
    return {
        "measure": measure,
        "a": a.name,
        "site": a.site,
        "layer": layer_of(a.site),
        "b": b.name,
        "other_site": b.site,
        "other_layer": layer_of(b.site),
        "value": cell.value,
        "ci_low": cell.low,
        "ci_high": cell.high,
        "null_mean": cell.null_mean,
        "null_sd": cell.null_sd,
        "n": cell.n,
        "n_groups": len(np.unique(data.groups)),
        "width": a.store.sites[a.site].width,
        "other_width": b.store.sites[b.site].width,
        "unit": kind.unit,
        "estimator": kind.estimator,
    }


def _store_notes(sides: Sequence[Side]) -> list[str]:
    """Caveats of the stores, each once, with the names of those it is about."""
    about: dict[str, list[str]] = {}
    for side in sides:
        for note in side.store.notes:
            about.setdefault(note, []).append(side.name)
    return [f"{', '.join(names)}: {note}" for note, names in about.items()]


def _provenance(
    sides: Iterable[Side], options: Options, layer: Layers, part: str, started: float
) -> Provenance:
    stores = [side.store for side in sides]
    parameters = {
        "layer": spelled(layer),
        "compared": part,
        "measures": list(options.measures),
        "max_rows": options.max_rows,
        "k": options.k,
        "bandwidth": options.bandwidth,
        "draws": options.draws,
        "stores": [store.key for store in stores],
    }
    given = {"within": "store", "between": "store_a, store_b", "steps": "stores"}[part]
    said = ", ".join(f"{n}={parameters[n]!r}" for n in ("layer", "measures", "max_rows", "draws"))
    models = dict.fromkeys(str(store.about.get("model", "")) for store in stores)
    return Provenance(
        model="; ".join(models),
        data=str(stores[0].about.get("corpus", stores[0].path.name)),
        store_key=stores[0].key,
        call=f"layerscope.analyses.similarity({given}, {said}, seed={options.seed})",
        parameters=parameters,
        seed=options.seed,
        seconds=round(time.perf_counter() - started, 2),
    )
