"""`word_classes`: whether hidden states cluster by the class of the next word, and of the current one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from layerscope.analyses.clustering.maps import METHODS, checked_methods
from layerscope.analyses.clustering.neighbour_labels import Of, classes_of, of_words
from layerscope.analyses.clustering.separation import Draws, draws_of, lines_of, separation
from layerscope.analyses.clustering.word_class_finding import COLUMNS, WordClassFinding
from layerscope.analyses.clustering.word_class_maps import map_lines
from layerscope.analyses.clustering.word_class_notes import cautions
from layerscope.analyses.material.sample import Sample, labelled_sample
from layerscope.hooks.sites import layer_of
from layerscope.probes.reading.labels import label_of
from layerscope.probes.reading.rows import Pieces
from layerscope.probes.reading.sources import Layers, Source, source_of, spelled
from layerscope.store import Store
from layerscope.store.origin import provenance_of

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.corpus import Corpus, Samples


def word_classes(
    source: nn.Module | Store | str | Path,
    data: Corpus | Samples | Any = None,
    layer: Layers = "all",
    *,
    label: str | None = None,
    of: Literal["next", "current", "both"] = "both",
    twin: bool | Store = False,
    maps: Sequence[str] = METHODS,
    points: int = 600,
    exclude: Sequence[str] = ("PUNCT",),
    per_class: int | None = 300,
    least: int = 20,
    pieces: Pieces = "last",
    neighbours: int = 10,
    draws: int = 200,
    max_rows: int = 4000,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> WordClassFinding:
    """How far apart word classes lie in the hidden states, layer by layer, and maps of the states.

    A language model is trained to predict the next word, never its class. The generalised
    discrimination value (GDV) says how far the states before words of different classes have come
    apart: 0 is one cloud, and the floor is what classes of these sizes could reach at most. Silhouette,
    neighbour purity, k-means agreement, Fisher's ratio and NC1 stand beside it.

    Args:
        source: A model, a store, or its folder.
        data: For a model: a labelled corpus or what `layerscope.read` accepts; None takes the
            bundled sentences.
        layer: Sites, as `probe` takes them.
        label: The label whose classes are meant; None takes the only one, or ``upos``. Need not be
            word classes: with a label of whole texts only ``current`` makes sense, and is taken.
        of: The class of the word after (``next``), of the word itself (``current``), or both.
        twin: Also measure the untrained twin, which needs the model; or its store.
        maps: Which maps to draw: any of ``pca``, ``mds``, ``umap``; empty for none. UMAP takes some
            ten seconds to load and compile, once.
        points: At most so many rows are on the maps.
        exclude: Classes to leave out; punctuation is easily told apart and would carry the score.
        per_class: At most so many rows of each class, at random; None takes all.
        least: Classes with fewer rows are left out, with their count in the notes: every class has
            the same weight, however few its rows.
        pieces: Which piece stands for a word that the tokenizer cut, where rows are tokens.
        neighbours: Of a row, for the purity.
        draws: Shuffled labellings behind each null.
        max_rows: Above it, rows are left out at random; all pairs of rows are compared.
        tokenizer: Object or path; None takes the model's own.
        seed: Of samples, nulls, intervals, k-means, UMAP and twin.
        progress: Whether to show bars.

    Returns:
        A `WordClassFinding`: one line per measure, site and kind of class, and the points of the
        maps.

    Raises:
        LookupError: unknown label, site or layer, with the nearest names.
        ValueError: fewer than two classes with enough rows; activations that are NaN or infinite,
            with site and row; a map or an option that there is none of.
    """
    started = time.perf_counter()
    methods = checked_methods(maps)
    _check(of, points, draws)
    found = source_of(
        source, layer, data, twin, label=label, tokenizer=tokenizer, seed=seed, progress=progress
    )
    name, notes = label_of(found.store, label), list(found.store.notes)
    kinds = _kinds(of, found.store, name, notes)
    samples = {
        kind: _sample(
            found.store, name, kind, exclude, pieces, per_class, least, max_rows, seed, notes
        )
        for kind in kinds
    }
    lines = _scores(found, samples, neighbours, draws, seed, progress)
    lines += map_lines(found, samples, name, methods, points, seed, progress)
    table = _table(lines, name)
    notes += cautions(table, samples)
    parameters = {
        "layer": spelled(layer),
        "label": name,
        "of": of,
        "twin": found.twin is not None,
        "maps": list(methods),
        "points": points,
        "exclude": list(exclude),
        "per_class": per_class,
        "least": least,
        "pieces": pieces,
        "neighbours": neighbours,
        "draws": draws,
        "max_rows": max_rows,
    }
    return WordClassFinding(
        table=table,
        provenance=provenance_of(
            found.store,
            call=_call(parameters, seed),
            parameters=parameters,
            seed=seed,
            started=started,
        ),
        notes=tuple(dict.fromkeys(notes)),
    )


def _check(of: str, points: int, draws: int) -> None:
    if of not in ("next", "current", "both"):
        raise ValueError(f"of is 'next', 'current' or 'both', not {of!r}")
    if points < 3:
        raise ValueError(f"a map needs at least 3 points, got {points}; maps=() draws none")
    if draws < 20:
        raise ValueError(f"a null needs at least 20 draws, got {draws}")


def _kinds(of: str, store: Store, label: str, notes: list[str]) -> tuple[Of, ...]:
    if of == "both" and not of_words(store.rows, label):
        notes.append(f"{label!r} is not a label of words: there is no class of the next word")
        return ("current",)
    if of == "both":
        return ("next", "current")
    return ("next",) if of == "next" else ("current",)


def _sample(
    store: Store,
    label: str,
    kind: Of,
    exclude: Sequence[str],
    pieces: Pieces,
    per_class: int | None,
    least: int,
    max_rows: int,
    seed: int,
    notes: list[str],
) -> Sample:
    own: list[str] = []
    values = classes_of(store, label, kind, exclude, own)
    chosen = labelled_sample(
        store,
        f"{kind} {label}",
        values=values,
        pieces=pieces,
        max_rows=max_rows,
        per_class=per_class,
        least=max(2, least),
        seed=seed,
    )
    notes += [*own, *chosen.notes]
    return chosen


def _scores(
    source: Source,
    samples: dict[Of, Sample],
    neighbours: int,
    count: int,
    seed: int,
    progress: bool,
) -> list[dict[str, Any]]:
    """One line per measure, site and kind of class."""
    from tqdm.auto import tqdm

    lines = []
    steps = [(kind, site) for kind in samples for site in source.sites]
    drawn = {k: draws_of(sample, draws=count, seed=seed) for k, sample in samples.items()}
    for kind, site in tqdm(steps, "word classes", unit="site", disable=not progress):
        sample, draws = samples[kind], drawn[kind]
        scores = separation(
            sample.read(source.store, site), draws, neighbours=neighbours, null=True, seed=seed
        )
        if source.twin is not None:
            fresh = sample.read(source.twin, site)
            _add_twin(
                scores, separation(fresh, draws, neighbours=neighbours, null=False, seed=seed)
            )
        shared = _shared(source, site, kind, sample, draws)
        lines += [shared | line for line in lines_of(scores, neighbours)]
    return lines


def _add_twin(scores: dict[str, dict[str, float]], fresh: dict[str, dict[str, float]]) -> None:
    for name, found in fresh.items():
        scores[name] |= {
            "twin": found["value"],
            "twin_low": found["ci_low"],
            "twin_high": found["ci_high"],
        }


def _shared(source: Source, site: str, kind: Of, sample: Sample, draws: Draws) -> dict[str, Any]:
    return {
        "of": kind,
        "site": site,
        "layer": layer_of(site),
        "n": len(sample),
        "n_groups": int(draws.groups.max()) + 1,
        "n_classes": len(sample.classes),
        "width": source.store.sites[site].width,
    }


def _table(lines: list[dict[str, Any]], label: str) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(lines).assign(label=label)
    for column in ("layer", "n", "n_groups", "n_classes", "width", "point", "row"):
        if column in table:
            table[column] = table[column].astype("Int64")
    return table[[column for column in COLUMNS if column in table]]


def _call(parameters: dict[str, Any], seed: int) -> str:
    """The line that measures this again on the same store."""
    said = ("layer", "label", "of", "maps", "points", "exclude", "per_class", "least", "max_rows")
    options = "".join(f", {name}={parameters[name]!r}" for name in said)
    return f"layerscope.analyses.word_classes(store{options}, seed={seed})"
