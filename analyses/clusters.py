"""`clusters`: what lies together in the hidden states when no label says what to look for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from layerscope.analyses.clustering.cluster_lines import Job, lines_at
from layerscope.analyses.clustering.clusters_finding import COLUMNS, ClusterFinding
from layerscope.analyses.clustering.partitions import METHODS
from layerscope.analyses.material.contexts import contexts
from layerscope.analyses.material.sample import Sample, labelled_sample, sample
from layerscope.probes.reading.sources import Layers, Source, source_of, spelled
from layerscope.store import Store
from layerscope.store.origin import provenance_of

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.corpus import Corpus, Samples


def clusters(
    source: nn.Module | Store | str | Path,
    data: Corpus | Samples | Any = None,
    layer: Layers = "all",
    *,
    methods: Sequence[str] = METHODS,
    k: int = 10,
    least: int = 15,
    label: str | None = None,
    examples: int = 8,
    resamples: int = 8,
    max_rows: int = 2000,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> ClusterFinding:
    """Clusters of hidden states at each site, with words in their texts from each of them.

    Args:
        source: A model, a store, or its folder.
        data: For a model: a corpus or what `layerscope.read` accepts; None takes the bundled sentences.
        layer: Sites, as `probe` takes them.
        methods: ``kmeans`` puts every row into one of `k` round clusters; ``hdbscan`` finds dense
            ones in the first ten principal components, as many as there are, and leaves rows out.
        k: Clusters of k-means.
        least: Rows of the smallest cluster of HDBSCAN.
        label: Also say how far the clusters agree with this label; rows without it are left out.
        examples: Words in context of each cluster, those nearest to its centre first.
        resamples: How often the rows are clustered again without a fifth of the groups.
        max_rows: Above it, rows are left out at random.
        tokenizer: Object or path; None takes the model's own.
        seed: Of rows, k-means, resamples, nulls and intervals.
        progress: Whether to show a bar.

    Returns:
        A `ClusterFinding`: one line per measure, site and method; one per cluster; one per example.

    Raises:
        LookupError: unknown label, site or layer, with the nearest names.
        ValueError: an unknown method; fewer rows than clusters; activations that are NaN or
            infinite, with site and row.
    """
    started = time.perf_counter()
    _check(methods, k, least, resamples)
    found = source_of(
        source,
        layer,
        data,
        label=label,
        labelled=label is not None,
        tokenizer=tokenizer,
        seed=seed,
        progress=progress,
    )
    chosen = _sample(found.store, label, max_rows, seed)
    if len(chosen) < 2 * max(k, least):
        raise ValueError(
            f"{len(chosen):,} rows are too few for {k} clusters, or for clusters of {least}; give more "
            "data, or lower k and least"
        )
    job = Job(
        methods=tuple(one for one in METHODS if one in methods),
        k=k,
        least=least,
        examples=examples,
        resamples=resamples,
        seed=seed,
    )
    table = _table(_lines(found, chosen, job, progress), chosen)
    options = {
        "layer": spelled(layer),
        "methods": list(job.methods),
        "k": k,
        "least": least,
        "label": label,
        "examples": examples,
        "resamples": resamples,
        "max_rows": max_rows,
    }
    said = "".join(f", {name}={value!r}" for name, value in options.items())
    return ClusterFinding(
        table=table,
        provenance=provenance_of(
            found.store,
            call=f"layerscope.analyses.clusters(store{said}, seed={seed})",
            parameters=options,
            seed=seed,
            started=started,
        ),
        notes=(*found.store.notes, *chosen.notes, *_cautions(table)),
    )


def _check(methods: Sequence[str], k: int, least: int, resamples: int) -> None:
    wrong = [name for name in methods if name not in METHODS]
    if wrong or isinstance(methods, str) or not methods:
        shown = methods if isinstance(methods, str) else (wrong or [""])[0]
        raise ValueError(f"methods is a list of {', '.join(map(repr, METHODS))}; {shown!r} is not")
    for name, value in (("k", k), ("least", least), ("resamples", resamples)):
        if value < 2:
            raise ValueError(f"{name} must be at least 2, got {value}")


def _sample(store: Store, label: str | None, max_rows: int, seed: int) -> Sample:
    if label is None:
        return sample(store, max_rows=max_rows, seed=seed)
    return labelled_sample(store, label, max_rows=max_rows, seed=seed)


def _lines(source: Source, chosen: Sample, job: Job, progress: bool) -> list[dict[str, Any]]:
    from tqdm.auto import tqdm

    shown = contexts(source.store, chosen.index)
    lines: list[dict[str, Any]] = []
    for site in tqdm(source.sites, "clusters", unit="site", disable=not progress):
        lines += lines_at(site, chosen.read(source.store, site), chosen, shown, job)
    return lines


def _table(lines: list[dict[str, Any]], chosen: Sample) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(lines)
    if chosen.label:
        table["label"] = chosen.label
    for column in ("layer", "clusters", "cluster", "n", "n_groups", "width", "row", "rank"):
        if column in table:
            table[column] = table[column].astype("Int64")
    return table[[column for column in COLUMNS if column in table]]


def _cautions(table: pd.DataFrame) -> list[str]:
    notes = [
        "k-means finds k clusters in anything: hold its scores against those of shuffled features",
        "HDBSCAN looks at the first ten principal components, k-means at all features",
    ]
    found = table[table["part"] == "silhouette"]
    empty = found[(found["method"] == "hdbscan") & (found["clusters"] < 2)]
    if len(empty):
        notes.append(f"HDBSCAN found fewer than two clusters at {', '.join(empty['site'])}")
    shuffled = found[(found["method"] == "hdbscan") & found["null_mean"].isna()]
    if len(shuffled):
        notes.append(
            f"in shuffled features HDBSCAN found no two clusters at {len(shuffled)} of "
            f"{(found['method'] == 'hdbscan').sum()} sites, so there is no null to draw there"
        )
    return notes
