"""AST probes of every site: the table, and what a reader must know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.corpus.splits import group_folds
from layerscope.corpus.tree_tuples import EMPTY, TreeTuple, constituents, decode
from layerscope.hooks.sites import layer_of
from layerscope.probes.kinds.kind import Asked
from layerscope.probes.reading.sources import Source
from layerscope.probes.reading.stored import stored_sites
from layerscope.probes.readouts.ast import AstReadout
from layerscope.probes.scoring.intervals import GroupBootstrap
from layerscope.probes.scoring.provenance import provenance
from layerscope.probes.solving.engine import place
from layerscope.probes.trees.ast_finding import AstFinding
from layerscope.probes.trees.ast_fit import AstFit
from layerscope.probes.trees.parses import Parses, parses
from layerscope.probes.trees.span_scores import MEASURES, span_scores

if TYPE_CHECKING:
    from layerscope.probes.kinds.ast import AST
    from layerscope.store import Store

MEMORY = 4e8
"""Bytes of activations that are trained on at a time."""
Scores = dict[str, NDArray[np.float64]]


def measure_ast(source: Source, kind: AST, asked: Asked) -> AstFinding:
    """Out-of-fold scores at every site, beside shuffled words, the twin and a tree without a model.

    Raises:
        LookupError: the store has no trees.
        ValueError: no text has a tree, or fewer groups than folds.
    """
    import pandas as pd

    trees = parses(source.store, max_words=asked.max_rows, seed=asked.seed)
    if asked.folds < 3:
        raise ValueError(
            f"folds must be at least 3 (one is tested, one chooses the epoch), got {asked.folds}"
        )
    fold = group_folds(None, trees.words.groups, folds=asked.folds, seed=asked.seed)
    bootstrap = GroupBootstrap(trees.words.groups, seed=asked.seed)
    chain = span_scores(_spans([_chain(trees, len(tree)) for tree in trees.trees]), trees.spans)
    found = _scores(source, trees, fold, kind, asked)
    lines = []
    for site in source.sites:
        width = source.store.sites[site].width
        for measure in MEASURES:
            line = _line(site, measure, found, bootstrap, chain)
            lines.append(
                line
                | {
                    "n": len(trees),
                    "n_words": int(trees.words.starts[-1]),
                    "n_groups": bootstrap.count,
                    "n_labels": len(trees.labels),
                    "width": width,
                    "rank": _rank(kind, width),
                    "label": trees.label,
                    "unit": "F1" if measure in ("f1", "inner") else measure,
                    "estimator": "orthogonal projection, ranking loss and cross-entropy",
                }
            )
    table = pd.DataFrame(lines)
    table["layer"] = table["layer"].astype("Int64")
    return AstFinding(
        table=table,
        provenance=provenance(source, kind, asked, label=trees.label),
        notes=(*source.store.notes, *trees.notes, *_cautions(trees)),
    )


def fit_ast(
    store: Store,
    site: str | int,
    kind: AST,
    *,
    max_words: int,
    seed: int,
    device: str | None,
) -> AstReadout:
    """The probe trained on all texts; a fifth of them chooses the epoch."""
    name = stored_sites(store, site)[0]
    trees = parses(store, max_words=max_words, seed=seed)
    folds = max(2, min(5, int(trees.words.groups.max()) + 1))
    fold = group_folds(None, trees.words.groups, folds=folds, seed=seed)
    x = trees.words.read(store, name, device=place(device))
    fit = AstFit(_rank(kind, x.shape[1]), kind.epochs, seed)
    probe = fit(x[None], trees, fold != 0, fold == 0)
    return AstReadout(
        projection=probe.projection[0].cpu(),
        labels=probe.labels[0].cpu(),
        unary=probe.unary[0].cpu(),
        scale=probe.scale[0].cpu(),
        mean=probe.mean[0].cpu(),
        classes=trees.labels,
        unary_classes=trees.unary,
        site=name,
        label=trees.label,
        about={"store_key": store.key, "texts": len(trees), "notes": list(trees.notes)},
    )


def _rank(kind: AST, width: int) -> int:
    return max(1, min(kind.rank, width // 2))


def _scores(
    source: Source, trees: Parses, fold: NDArray[np.int64], kind: AST, asked: Asked
) -> dict[tuple[str, str], Scores]:
    """(what, site) -> scores of texts; what is ``value``, ``control`` or ``twin``."""
    from tqdm.auto import tqdm

    wanted = [(what, site) for site in source.sites for what in _asked(source, asked)]
    words = int(trees.words.starts[-1])
    found: dict[tuple[str, str], Scores] = {}
    bar = tqdm(total=len(wanted), desc="probe trees", unit="probe", disable=not asked.progress)
    for part in _alike(wanted, source, words):
        x = torch.stack([_read(source, trees, *one, asked) for one in part])
        fit = AstFit(_rank(kind, x.shape[2]), kind.epochs, asked.seed)
        for one, guess in zip(part, _held_out(x, trees, fold, fit), strict=True):
            found[one] = span_scores(_spans(guess), trees.spans)
        bar.update(len(part))
    bar.close()
    return found


def _asked(source: Source, asked: Asked) -> list[str]:
    twin = ["twin"] if source.twin is not None else []
    return ["value", *(["control"] if asked.control else []), *twin]


def _alike(
    wanted: Sequence[tuple[str, str]], source: Source, words: int
) -> Iterator[list[tuple[str, str]]]:
    """Runs of one width that fit into memory together."""
    held: list[tuple[str, str]] = []
    for one in wanted:
        width = source.store.sites[one[1]].width
        full = (len(held) + 1) * 4 * words * width > MEMORY
        if held and (full or source.store.sites[held[0][1]].width != width):
            yield held
            held = []
        held.append(one)
    if held:
        yield held


def _read(source: Source, trees: Parses, what: str, site: str, asked: Asked) -> Tensor:
    store = source.twin if what == "twin" and source.twin is not None else source.store
    x = trees.words.read(store, site, device=place(asked.device))
    return x[shuffled(trees, asked.seed).to(x.device)] if what == "control" else x


def shuffled(trees: Parses, seed: int) -> Tensor:
    """``[words]`` numbers of words, in random order within each text."""
    generator = np.random.default_rng(seed)
    starts = trees.words.starts
    runs = [
        start + generator.permutation(n) for start, n in zip(starts, np.diff(starts), strict=False)
    ]
    return torch.from_numpy(np.concatenate(runs))


def _held_out(
    x: Tensor, trees: Parses, fold: NDArray[np.int64], fit: AstFit
) -> list[list[TreeTuple]]:
    """For each site the trees of all texts, each by a probe that saw no text of its group."""
    folds = int(fold.max()) + 1
    found: list[list[Any]] = [[None] * len(trees) for _ in x]
    for test in range(folds):
        choose = fold == (test + 1) % folds
        probe = fit(x, trees, (fold != test) & ~choose, choose)
        texts = np.flatnonzero(fold == test).tolist()
        for site, guesses in enumerate(probe.predict(x, trees, texts)):
            for text, guess in zip(texts, guesses, strict=True):
                found[site][text] = guess
    return found


def _spans(guesses: Sequence[TreeTuple]) -> list[list[tuple[str, int, int]]]:
    return [list(constituents(decode(guess))) for guess in guesses]


def _chain(trees: Parses, words: int) -> TreeTuple:
    """What can be said without a model: all to the right, and everywhere the commonest label."""
    first = Counter(tree.labels[int(np.argmax(tree.heights))] for tree in trees.trees)
    other = Counter(label for tree in trees.trees for label in tree.labels)
    alone = Counter(label for tree in trees.trees for label in tree.unary)
    top = first.most_common(1)[0][0]
    rest = other.most_common(1)[0][0]
    labels = (top, *[rest] * (words - 2))
    return TreeTuple(tuple(range(words - 1, 0, -1)), labels, (alone.most_common(1)[0][0],) * words)


def _line(
    site: str,
    measure: str,
    found: dict[tuple[str, str], Scores],
    bootstrap: GroupBootstrap,
    chain: Scores,
) -> dict[str, Any]:
    value, low, high = _mean(found["value", site][measure], bootstrap)
    line: dict[str, Any] = {
        "site": site,
        "layer": layer_of(site),
        "measure": measure,
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "baseline": _mean(chain[measure], bootstrap)[0],
    }
    for what in ("control", "twin"):
        if (what, site) in found:
            names = (what, f"{what}_low", f"{what}_high")
            line |= zip(names, _mean(found[what, site][measure], bootstrap), strict=True)
    if "control" in line:
        line["selectivity"] = value - line["control"]
    return line


def _mean(scores: NDArray[np.float64], bootstrap: GroupBootstrap) -> tuple[float, float, float]:
    """Mean over texts and its interval; texts that have no score are left out."""
    there = (~np.isnan(scores)).astype(np.float64)
    lost = np.where(there > 0, 1 - np.nan_to_num(scores), 0.0)
    low, high = bootstrap.ratio(lost, there)
    return float(1 - lost.sum() / there.sum()), low, high


def _cautions(trees: Parses) -> list[str]:
    how = (
        "each text is scored by a probe without its group, and weighs as much as any other; another "
        "fold chooses the epoch"
    )
    notes = [how]
    groups = int(trees.words.groups.max()) + 1
    if groups < 20:
        notes.append(f"intervals rest on {groups} groups only, and are likely too narrow")
    alone = sum(first == last for spans in trees.spans for _, first, last in spans)
    total = sum(map(len, trees.spans))
    notes.append(
        f"{alone / max(1, total):.0%} of the constituents are single words, which the word alone can "
        "tell; the measure 'inner' leaves them out"
    )
    common = Counter(label for tree in trees.trees for label in tree.labels if label != EMPTY)
    rare = sum(count < 5 for count in common.values())
    if rare:
        notes.append(f"{rare} of {len(common)} labels are seen fewer than five times")
    notes.append("a probe shows what can be read off a layer, not what the model uses")
    return notes
