"""`layer_similarity`: how little each block, attention and MLP turns the residual stream."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from layerscope.analyses.material.resampling import mean_intervals
from layerscope.analyses.material.row_rules import row_rule
from layerscope.analyses.skipping.cosines import Cosines, sites_of
from layerscope.analyses.skipping.layer_similarity_finding import COLUMNS, PARTS, SimilarityFinding
from layerscope.analyses.skipping.similarity_sources import (
    Piece,
    Plan,
    from_model,
    from_store,
    model_sites,
    plan,
)
from layerscope.finding import Provenance
from layerscope.hooks.prompts import in_force
from layerscope.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.corpus import Corpus, Samples

TEXTS = 300
"""Of the bundled sentences, where no data are given."""


def layer_similarity(
    source: nn.Module | Store | str | Path,
    data: Corpus | Samples | Any = None,
    *,
    windows: bool = True,
    twin: bool = False,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> SimilarityFinding:
    """Cosine between what enters and what leaves each block, attention, MLP and run of blocks.

    The residual is on both sides (He et al. 2024): 1 means that the part leaves the direction of
    the stream as it is. ``importance`` is 1 minus the cosine, and ``rank`` orders the parts of one
    kind, least important first.

    Args:
        source: A model, which runs over `data` and stores nothing; or a store or its folder, whose
            sites are compared as far as they are there.
        data: For a model: a corpus or what `layerscope.read` accepts; None takes 300 of the
            bundled sentences.
        windows: Also compare the input of every block with the output of every later one.
        twin: Also measure the same architecture with fresh weights; needs the model.
        tokenizer: Object or path; None takes the model's own.
        seed: Of intervals and twin.
        progress: Whether to show bars.

    Returns:
        A `SimilarityFinding`: one line per block, attention, MLP, and run of blocks.

    Raises:
        LookupError: a model without blocks, or a store without the input and output of any.
        ValueError: activations that are NaN or infinite; data or twin together with a store.
    """
    started = time.perf_counter()
    more: tuple[str, ...]
    if isinstance(source, nn.Module):
        sites, name, about = _of_model(source, data)
        chosen = plan(sites)
        counted = _summed(chosen, windows, _running(source, about, chosen, tokenizer, progress))
        fresh = _twin(source, about, chosen, windows, tokenizer, seed, progress) if twin else None
        names = {"model": name, "data": about.name}
        more = in_force(source)
    else:
        store, more = _of_store(source, data, twin), ()
        chosen = plan(list(store.sites))
        sites = _sites(chosen)
        counted = _summed(chosen, windows, from_store(store, sites, progress))
        fresh = None
        names = {
            "model": str(store.about.get("model", "")),
            "data": str(store.about.get("corpus", store.path.name)),
            "store_key": store.key,
        }
    table = _table(counted, fresh, seed)
    notes = [*more, *chosen.notes, *_cautions(counted, table)]
    if isinstance(source, (Store, str, Path)):
        notes = [*store.notes, *_row_notes(store), *notes]
    options = {"windows": windows, "twin": twin}
    changed = "".join(f", {k}={v!r}" for k, v in options.items() if v != (k == "windows"))
    given = "model, data" if isinstance(source, nn.Module) and data is not None else "model"
    given = given if isinstance(source, nn.Module) else "store"
    return SimilarityFinding(
        table=table,
        provenance=Provenance(
            **names,
            call=f"layer_similarity({given}{changed})",
            parameters=options,
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=tuple(dict.fromkeys(notes)),
    )


def _of_model(model: nn.Module, data: Any) -> tuple[tuple[str, ...], str, Any]:
    from layerscope.corpus import bundled, read
    from layerscope.hooks.locating.structure import title

    corpus = bundled().take(TEXTS) if data is None else read(data)
    return model_sites(model), title(model), corpus


def _of_store(source: Store | str | Path, data: Any, twin: bool) -> Store:
    if not isinstance(source, (Store, str, Path)):
        raise TypeError(f"compare a model, a store or its folder, not {type(source).__name__}")
    if data is not None:
        raise ValueError("a store has its own rows; give data only with a model")
    if twin:
        raise ValueError("twin=True needs the model; a store has only its activations")
    return source if isinstance(source, Store) else Store.open(source)


def _sites(chosen: Plan) -> tuple[str, ...]:
    return sites_of([s for p in chosen.pairs for s in (p.before, p.after)])


def _running(
    model: nn.Module, corpus: Any, chosen: Plan, tokenizer: Any, progress: bool
) -> Iterable[Piece]:
    return from_model(model, corpus, _sites(chosen), tokenizer, progress)


def _twin(
    model: nn.Module,
    corpus: Any,
    chosen: Plan,
    windows: bool,
    tokenizer: Any,
    seed: int,
    progress: bool,
) -> Cosines:
    from layerscope.corpus import Corpus
    from layerscope.hooks.load import tokenizer_of
    from layerscope.hooks.twin import untrained_twin

    tokens = tokenizer_of(model, tokenizer) if isinstance(corpus, Corpus) else None
    fresh = untrained_twin(model, seed=seed)
    return _summed(chosen, windows, _running(fresh, corpus, chosen, tokens, progress))


def _summed(chosen: Plan, windows: bool, pieces: Iterable[Piece]) -> Cosines:
    cosines = Cosines(chosen.pairs, chosen.stream if windows else ())
    for states, groups, positions in pieces:
        cosines.update(states, groups, positions)
    if not cosines.counts.sum():
        raise ValueError("there are no rows to compare: every text is empty")
    return cosines


def _table(found: Cosines, fresh: Cosines | None, seed: int) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame(_lines(found))
    table["value"], table["ci_low"], table["ci_high"] = _means(found, seed)
    table["importance"] = 1 - table["value"]
    for column, part in (("without_first", 0), ("first_only", 1)):
        n = found.counts[part].sum()
        table[column] = found.sums[part].sum(0) / n if n else float("nan")
    if fresh is not None:
        table["twin"], table["twin_low"], table["twin_high"] = _means(fresh, seed)
    ranks = table.groupby(["part", "blocks"])["importance"].rank(method="first")
    table["rank"] = ranks.astype(int)
    sublayer = table["part"].isin(["attention", "mlp"])
    table["joint_rank"] = table["importance"].where(sublayer).rank(method="first").astype("Int64")
    table["n"] = int(found.counts.sum())
    table["n_groups"] = found.counts.shape[1]
    table["unit"] = "cosine"
    table["estimator"] = "mean over tokens"
    return table[[column for column in COLUMNS if column in table]]


def _lines(found: Cosines) -> list[dict[str, Any]]:
    def line(part: str, layer: int, blocks: int, before: object, after: object) -> dict[str, Any]:
        return {
            "part": part,
            "layer": layer,
            "blocks": blocks,
            "before": _words(before),
            "after": _words(after),
        }

    single = [line(p.part, p.layer, 1, p.before, p.after) for p in found.pairs]
    stream = found.stream
    return single + [line("window", i, n, stream[i], stream[i + n]) for i, n in found.gaps]


def _words(state: Any) -> str:
    return " + ".join(state).replace("+ -", "- ")


def _means(found: Cosines, seed: int) -> tuple[Any, Any, Any]:
    sums, counts = found.sums.sum(0), found.counts.sum(0)
    return sums.sum(0) / counts.sum(), *mean_intervals(sums, counts, seed=seed)


def _cautions(found: Cosines, table: pd.DataFrame) -> list[str]:
    notes = ["The cosine ignores length: a part that only rescales the stream has importance 0."]
    if not found.counts[1].sum():
        notes.append(
            "No row is the first token of its text (a store leaves out BOS unless it was made "
            "with special_tokens=True), so value and without_first are the same."
        )
    groups = found.counts.shape[1]
    if groups < 2:
        notes.append("A single text or group: there is no interval.")
    elif groups < 20:
        notes.append(f"Only {groups} texts or groups: the intervals are too narrow.")
    moved = [
        PARTS[str(part)]
        for part, lines in table[table["blocks"] == 1].groupby("part")
        if lines["value"].idxmax() != lines["without_first"].idxmax()
    ]
    if moved and found.counts[1].sum() and found.counts[0].sum():
        notes.append(
            f"Which {' and which '.join(moved)} turns the state least depends on the first token of "
            "each text, which often carries a huge state; see the column without_first."
        )
    return notes


def _row_notes(store: Store) -> list[str]:
    rule = row_rule(store)
    if rule in ("tokens", "positions"):
        return []
    return [f"The rows of this store are {rule}, not single tokens: means of states were compared."]
