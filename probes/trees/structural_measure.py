"""Structural probes of every site: the table, and what a reader must know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerscope.corpus.splits import group_folds
from layerscope.hooks.sites import layer_of
from layerscope.probes.kinds.kind import Asked
from layerscope.probes.reading.sources import Source
from layerscope.probes.reading.stored import stored_sites
from layerscope.probes.readouts.structural import StructuralReadout
from layerscope.probes.scoring.intervals import GroupBootstrap
from layerscope.probes.scoring.provenance import provenance
from layerscope.probes.solving.engine import place
from layerscope.probes.solving.parallel import side_by_side
from layerscope.probes.trees.dependency import Forest, forest
from layerscope.probes.trees.spanning import hung, spanning_trees
from layerscope.probes.trees.structural_controls import chain_scores, control_forest
from layerscope.probes.trees.structural_finding import StructuralFinding
from layerscope.probes.trees.structural_site import Guess, TreeTask, untrained
from layerscope.probes.trees.tree_scores import MEASURES, TreeScores

if TYPE_CHECKING:
    from layerscope.probes.kinds.structural import Structural
    from layerscope.store import Store

UNITS = {
    "uuas": "share of edges",
    "dspr": "Spearman",
    "root": "share of sentences",
    "nspr": "Spearman",
}


@dataclass(frozen=True)
class _Site:
    """What one site gives."""

    site: str
    width: int
    guess: Guess
    value: TreeScores
    others: dict[str, TreeScores]
    """Under ``identity``, ``control`` and ``twin``."""


def measure_structure(source: Source, kind: Structural, asked: Asked) -> StructuralFinding:
    """Out-of-fold scores at every site, beside their controls.

    Raises:
        LookupError: no label ``head``.
        ValueError: no sentence has a tree, or fewer groups than folds.
    """
    trees = forest(source.store, max_words=asked.max_rows, seed=asked.seed)
    fold = _folds(trees, asked)
    device = place(asked.device)
    task = TreeTask(trees, fold, kind.rank, kind.components, kind.epochs, asked.seed, device)
    control = None
    if asked.control:
        drawn = control_forest(trees, seed=asked.seed)
        control = TreeTask(drawn, fold, kind.rank, kind.components, kind.epochs, asked.seed, device)
    sites = list(_sites(source, task, control, asked.progress))
    bootstrap = GroupBootstrap(trees.words.groups, seed=asked.seed)
    lines = _score_lines(sites, trees, bootstrap, kind)
    best = max(sites, key=lambda one: one.value.value("uuas"))
    import pandas as pd

    table = pd.DataFrame([*lines, *_word_lines(best, trees, source.store)])
    whole = ("layer", "n", "n_words", "n_groups", "width", "rank", "text", "position", "head")
    for column in (*whole, "found_head"):
        table[column] = table[column].astype("Int64")
    return StructuralFinding(
        table=table,
        provenance=provenance(source, kind, asked, label="head"),
        notes=(*source.store.notes, *trees.notes, *_cautions(lines, trees, asked)),
    )


def fit_structure(
    store: Store,
    site: str | int,
    kind: Structural,
    *,
    max_words: int,
    seed: int,
    device: str | None,
) -> StructuralReadout:
    """Distance and depth probe trained on all sentences; a fifth of them chooses penalty and epoch."""
    name = stored_sites(store, site)[0]
    trees = forest(store, max_words=max_words, seed=seed)
    folds = max(2, min(5, int(trees.words.groups.max()) + 1))
    fold = group_folds(None, trees.words.groups, folds=folds, seed=seed)
    task = TreeTask(trees, fold, kind.rank, kind.components, kind.epochs, seed, place(device))
    x = trees.words.read(store, name, device=task.device)
    return StructuralReadout(
        distance=task.fit(x, "distance").cpu(),
        depth=task.fit(x, "depth").cpu(),
        site=name,
        label="head",
        about={"store_key": store.key, "sentences": len(trees), "notes": list(trees.notes)},
    )


def _folds(trees: Forest, asked: Asked) -> NDArray[np.int64]:
    if asked.folds < 3:
        raise ValueError(
            f"folds must be at least 3 (one is tested, one chooses when to stop), got {asked.folds}"
        )
    return group_folds(None, trees.words.groups, folds=asked.folds, seed=asked.seed)


def _sites(source: Source, task: TreeTask, control: TreeTask | None, progress: bool) -> Any:
    from tqdm.auto import tqdm

    words = task.trees.words
    # Stacks are made here, before threads would make them twice.
    _ = task.distances, task.depths, control and (control.distances, control.depths)

    def one(site: str) -> _Site:
        x = words.read(source.store, site, device=task.device)
        guess = task.guess(x)
        others = {"identity": task.score(untrained(task, x))}
        if control is not None:
            others["control"] = control.score(control.guess(x))
        if source.twin is not None:
            there = words.read(source.twin, site, device=task.device)
            others["twin"] = task.score(task.guess(there))
        return _Site(site, x.shape[1], guess, task.score(guess), others)

    width = max(source.store.sites[site].width for site in source.sites)
    # Activations as read and as coordinates, twice over, and the distances of all sentences.
    taken = 16 * width * int(words.starts[-1]) + 8 * int((words.lengths**2).sum())
    found = side_by_side(one, source.sites, item_bytes=taken)
    return tqdm(found, "probe trees", len(source.sites), unit="site", disable=not progress)


def _score_lines(
    sites: Sequence[_Site], trees: Forest, bootstrap: GroupBootstrap, kind: Structural
) -> list[dict[str, Any]]:
    chain = chain_scores(trees)
    lines = []
    for one in sites:
        for measure in MEASURES:
            low, high = one.value.interval(measure, bootstrap)
            line: dict[str, Any] = {
                "part": "score",
                "site": one.site,
                "layer": layer_of(one.site),
                "label": "head",
                "measure": measure,
                "value": one.value.value(measure),
                "ci_low": low,
                "ci_high": high,
                "baseline": chain.value(measure),
            }
            for name, scores in one.others.items():
                low, high = scores.interval(measure, bootstrap)
                line |= {name: scores.value(measure), f"{name}_low": low, f"{name}_high": high}
            if "control" in line:
                line["selectivity"] = line["value"] - line["control"]
            lines.append(
                line
                | {
                    "n": len(trees),
                    "n_words": int(trees.words.starts[-1]),
                    "n_groups": bootstrap.count,
                    "width": one.width,
                    "rank": min(kind.rank, one.width),
                    "unit": UNITS[measure],
                    "estimator": "distance and depth probe, least squares then L1",
                }
            )
    return lines


def _word_lines(best: _Site, trees: Forest, store: Store) -> list[dict[str, Any]]:
    """The words of one sentence with its tree and the one that was found."""
    chosen = _typical(best.value)
    heads, mask = trees.heads[chosen], trees.scored[chosen]
    edges = spanning_trees([best.guess.distances[chosen]], [mask])[0]
    candidates = np.flatnonzero(mask)
    root = int(candidates[np.argmin(best.guess.depths[chosen][candidates])])
    found = hung(edges, root, len(heads))
    frame = store.rows
    name = "word" if "word" in frame else "token"
    labels = trees.words.column(frame, name) if name in frame else [""] * len(trees.words.first)
    forms = trees.words.parts(labels)[chosen]
    return [
        {
            "part": "word",
            "site": best.site,
            "layer": layer_of(best.site),
            "text": int(trees.words.texts[chosen]),
            "position": place,
            "word": str(forms[place]),
            "scored": bool(mask[place]),
            "head": int(heads[place]) + 1,
            "found_head": int(found[place]) + 1 if mask[place] else None,
        }
        for place in range(len(heads))
    ]


def _typical(scores: TreeScores) -> int:
    """A sentence that can be drawn, whose share of edges found is nearest to that of all.

    Among equals, the one nearest to eleven words.
    """
    share = scores.hits / np.maximum(scores.edges, 1)
    off = np.abs(share - scores.value("uuas")).round(2)
    # Few words of punctuation, and about as many as can be read.
    odd = (scores.lengths - scores.edges > 3) | (scores.lengths < 8) | (scores.lengths > 14)
    return int(np.lexsort((np.abs(scores.lengths - 11), off, odd))[0])


def _cautions(lines: Sequence[dict[str, Any]], trees: Forest, asked: Asked) -> list[str]:
    notes = [
        "each sentence is scored by a probe without its group; another fold chooses penalty and epoch"
    ]
    groups = int(trees.words.groups.max()) + 1
    if groups < 20:
        notes.append(f"intervals rest on {groups} groups only, and are likely too narrow")
    train = int(trees.words.starts[-1]) * (asked.folds - 2) // asked.folds
    if train < 2 * lines[0]["width"]:
        notes.append(
            f"{train:,} training words for {lines[0]['width']:,} features: a probe can fit any tree "
            "there, so trust what it gains on the control"
        )
    best = max((l for l in lines if l["measure"] == "uuas"), key=lambda line: line["value"])
    if best["value"] <= best["baseline"]:
        notes.append(
            f"no site does better than a chain of neighbours (UUAS {best['baseline']:.3f}): "
            "nothing here shows more than word order"
        )
    notes.append("a probe shows what can be read off a layer, not what the model uses")
    return notes
