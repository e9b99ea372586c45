"""`geometry`: how many dimensions the rows of each layer fill, and how evenly they point."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from layerscope.analyses.material.blocks import Blocks
from layerscope.analyses.material.sample import Sample, sample
from layerscope.analyses.shapes.cloud import Cloud, cloud
from layerscope.analyses.shapes.geometry_finding import COLUMNS, GeometryFinding
from layerscope.analyses.shapes.geometry_notes import cautions
from layerscope.analyses.shapes.geometry_table import (
    Line,
    Nulls,
    cosine_lines,
    dimension_lines,
    independent,
    spectral_lines,
    spectrum_lines,
    twonn_lines,
)
from layerscope.finding import Provenance
from layerscope.hooks.sites import layer_of
from layerscope.probes.reading.sources import Layers, Source, source_of, spelled
from layerscope.probes.solving.parallel import side_by_side
from layerscope.store import Store
from layerscope.store.origin import provenance_of

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.corpus import Corpus, Samples

BLOCKS = 50
"""Groups are left out in so many blocks for the intervals, at most."""
_KEYS = ["part", "site", "measure", "rank", "n"]


def geometry(
    model_or_store: nn.Module | Store | str | Path,
    data: Corpus | Samples | Any = None,
    layer: Layers = "all",
    *,
    twin: bool | Store = False,
    rows: str | None = None,
    neighbour_rows: int = 5000,
    draws: int = 5,
    tokenizer: Any = None,
    device: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> GeometryFinding:
    """Dimension, spectrum and anisotropy of the rows of each site, with nulls and intervals.

    Participation ratio (plain and corrected for few rows), effective rank, stable rank, share of the
    first principal component, power law of the spectrum, TwoNN dimension, and the mean cosine of two
    rows: as they are, without the dimensions that add most to it, and without mean and top
    directions. All rows of the store count; only TwoNN looks at a sample.

    Args:
        model_or_store: A model, whose activations are extracted first; or a store, or its folder.
        data: For a model: what `layerscope.read` takes; None takes the bundled corpus.
        layer: Sites, as `probe` takes them.
        twin: True also measures the same architecture with fresh weights (needs the model); or a
            store of the twin with the same rows.
        rows: Row rule for `extract`, for a model.
        neighbour_rows: At most so many rows for TwoNN, whose time grows with their square.
        draws: Of covariances of independent features; TwoNN looks at one shuffle of its rows.
        tokenizer: For a model; None takes its own.
        device: None takes CUDA where there is one.
        seed: Of samples, draws and the twin.
        progress: Whether to show bars.

    Returns:
        A `GeometryFinding`: lines of ``part`` ``measure``, ``spectrum``, ``decimation`` and
        ``outlier`` for every site.

    Raises:
        LookupError: a site that is not there.
        ValueError: fewer than 5 rows, activations that are NaN or infinite, or data with a store.
    """
    started = time.perf_counter()
    source = source_of(
        model_or_store,
        layer,
        data,
        twin,
        labelled=False,
        rows=rows,
        tokenizer=tokenizer,
        seed=seed,
        progress=progress,
    )
    store = source.store
    if len(store) < 5:
        raise ValueError(f"geometry needs at least 5 rows, {store.path.name} has {len(store)}")
    work = _Work(store, neighbour_rows, draws, device, seed)
    table = _table(work.lines(source.sites, "geometry", progress), work)
    if source.twin is not None:
        table = _with_twin(table, source, neighbour_rows, draws, device, seed, progress)
    return GeometryFinding(
        table=table[[column for column in COLUMNS if column in table]],
        provenance=_provenance(source, layer, neighbour_rows, draws, seed, started),
        notes=(*store.notes, *cautions(table, work.duplicates, work.medians, neighbour_rows)),
    )


class _Work:
    """One store: the same blocks and the same sample at every site."""

    def __init__(
        self, store: Store, neighbour_rows: int, draws: int, device: str | None, seed: int
    ) -> None:
        self.store, self.nulls = store, Nulls(draws, seed)
        self.sample: Sample = sample(store, max_rows=neighbour_rows, seed=seed)
        whole = sample(store, max_rows=len(store), seed=seed).groups
        self.groups = int(whole.max()) + 1
        self.blocks = Blocks.of(whole, most=BLOCKS, seed=seed)
        self.near = Blocks.of(self.sample.groups, most=BLOCKS, seed=seed)
        found = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or found)
        self.duplicates: dict[str, int] = {}
        self.medians: dict[str, float] = {}

    def lines(self, sites: tuple[str, ...], name: str, progress: bool) -> list[Line]:
        from tqdm.auto import tqdm

        width = max(self.store.sites[site].width for site in sites)
        taken = 8.0 * width * (4 * min(width, len(self.store)) + 2 * len(self.sample)) + 2e8
        found = side_by_side(self.site, sites, item_bytes=taken)
        bar = tqdm(found, name, len(sites), unit="site", disable=not progress)
        return [line for lines in bar for line in lines]

    def site(self, site: str) -> list[Line]:
        found = cloud(site, self.store[site], self.blocks, self.device)
        x = self.sample.read(self.store, site, device=str(self.device))
        near, self.duplicates[site] = twonn_lines(x, self.near, self.nulls, scan=True)
        self.medians[site] = float(x.abs().median())
        shared = {"part": "measure", "site": site, "layer": layer_of(site), "n": found.rows}
        return [
            shared | line | {"width": found.width}
            for line in [*_streamed(found, self.nulls), *near]
        ]


def _streamed(found: Cloud, nulls: Nulls) -> list[Line]:
    lines = [*cosine_lines(found), *dimension_lines(found)]
    if not float(found.eigenvalues.sum()) > 0:
        return lines  # rows that do not vary have no spectrum
    null = independent(found, nulls)
    return [*spectral_lines(found, null, nulls), *lines, *spectrum_lines(found, null)]


def _table(lines: list[Line], work: _Work) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(lines)
    table["n_groups"] = work.groups
    for column in ("layer", "rank", "dimension"):
        table[column] = table[column].astype("Int64")
    return table


def _with_twin(
    table: pd.DataFrame,
    source: Source,
    neighbour_rows: int,
    draws: int,
    device: str | None,
    seed: int,
    progress: bool,
) -> pd.DataFrame:
    if source.twin is None:
        return table
    work = _Work(source.twin, neighbour_rows, draws, device, seed)
    theirs = _table(work.lines(source.sites, "geometry of the twin", progress), work)
    names = {"value": "twin", "ci_low": "twin_low", "ci_high": "twin_high"}
    theirs = theirs[theirs["part"] != "outlier"]
    keys = ["part", "site", "measure", "rank"]
    theirs = theirs[theirs["part"] != "decimation"][[*keys, *names]].rename(columns=names)
    return table.merge(theirs, how="left", on=keys)


def _provenance(
    source: Source, layer: Layers, neighbour_rows: int, draws: int, seed: int, started: float
) -> Provenance:
    parameters = {
        "layer": spelled(layer),
        "twin": source.twin is not None,
        "neighbour_rows": neighbour_rows,
        "draws": draws,
    }
    said = f"neighbour_rows={neighbour_rows}, draws={draws}, seed={seed}"
    return provenance_of(
        source.store,
        call=f"layerscope.analyses.geometry(store, layer={parameters['layer']!r}, {said})",
        parameters=parameters,
        seed=seed,
        started=started,
    )
