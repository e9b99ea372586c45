"""`task_geometry`: whether a layer's geometry follows the inputs or the task, and what it allows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from layerscope.analyses.measures.conditions import condition_grams
from layerscope.analyses.measures.dichotomies import Rule
from layerscope.analyses.tasks.task_conditions import (
    Conditions,
    Wanted,
    conditions_of,
    rows_of,
    targets_of,
)
from layerscope.analyses.tasks.task_geometry_finding import COLUMNS, TaskGeometryFinding
from layerscope.analyses.tasks.task_measures import Task, alignments, measure
from layerscope.hooks.sites import layer_of
from layerscope.probes.reading.sources import Source, source_of, spelled
from layerscope.probes.reading.stored import stored_sites
from layerscope.probes.solving.parallel import side_by_side
from layerscope.store.origin import provenance_of

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.corpus import Corpus, Samples
    from layerscope.store import Store


def task_geometry(
    source: nn.Module | Store | str | Path,
    data: Corpus | Samples | Any = None,
    layer: int | str | Sequence[int | str] = "all",
    *,
    conditions: Wanted | None = None,
    targets: str | Sequence[str] | Tensor | None = None,
    inputs: str | Tensor = "embed",
    ccgp: Rule | Sequence[Rule] = ("paired", "all"),
    group: str = "group",
    twin: bool | Store = False,
    decodable: float = 0.75,
    most: int = 500,
    per_condition: int = 200,
    folds: int = 5,
    rows: str | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> TaskGeometryFinding:
    """Geometry of condition means, layer by layer: like the inputs, or like the targets?

    Alignments of centred Gram matrices as in Alleman, Lindsey and Fusi (2024); parallelism score,
    cross-condition generalisation (CCGP) and shattering as in Bernardi et al. (2020).

    Args:
        source: A model, a store, or its folder.
        data: For a model: a corpus or what `layerscope.read` accepts; None takes the bundled one.
        layer: Sites to measure.
        conditions: Label columns, whose combinations of values are the conditions; or columns with
            the values to keep, ``{"Number": None, "deprel": ["nsubj", "obj"]}`` (None: all). None
            takes Number and upos. At most 64 conditions.
        targets: What the task asks for: label columns, or a tensor ``[rows of the store, columns]``.
            None takes the first column of `conditions`.
        inputs: What goes in: a site, or a tensor ``[rows of the store, columns]``.
        ccgp: Split rules of cross-condition generalisation, ``"paired"`` and ``"all"``. The numbers of
            the two differ even for perfect geometry.
        group: Column that says which rows belong together, in folds and in intervals.
        twin: Also measure the untrained twin: True (needs the model), or its store.
        decodable: Accuracy from which a dichotomy counts as decodable.
        most: Most balanced dichotomies for shattering; above, so many at random.
        per_condition: Most rows of one condition.
        folds: Of the decoders; a condition needs rows in as many groups.
        rows: Row rule for `extract`; None takes its default.
        tokenizer: Object or path; None takes the model's own.
        seed: Of sampling, folds, nulls and the twin.
        progress: Whether to show bars.

    Returns:
        A `TaskGeometryFinding`: one line per site, measure and dichotomy.

    Raises:
        LookupError: unknown label, column or site.
        ValueError: fewer than 3 or more than 64 conditions; activations that are NaN or infinite; no
            parallel dichotomy rule of that name.
    """
    started = time.perf_counter()
    rules = _rules(ccgp)
    found = source_of(
        source,
        _layers(layer, inputs) if isinstance(source, nn.Module) else layer,
        data,
        twin,
        labelled=False,
        rows=rows,
        tokenizer=tokenizer,
        seed=seed,
        progress=progress,
    )
    store = found.store
    sites = stored_sites(store, layer)
    named = [targets] if isinstance(targets, str) else targets
    at = conditions_of(
        store,
        conditions,
        [] if named is None or isinstance(named, Tensor) else list(named),
        group=group,
        folds=folds,
        per_condition=per_condition,
        seed=seed,
    )
    aim = at.names[0] if targets is None else targets
    target, values = targets_of(store, aim, at.sample.index)
    grams = condition_grams(values, at.codes, at.groups, len(at), at.blocks)
    task = Task(at, grams, rules, most, decodable, seed)
    table = _table(found, sites, inputs, task, progress)
    parameters = {
        "layer": spelled(layer),
        "conditions": list(at.names),
        "targets": target,
        "inputs": inputs if isinstance(inputs, str) else "the given tensor",
        "ccgp": list(rules),
        "group": group,
        "decodable": decodable,
        "most": most,
        "per_condition": per_condition,
        "folds": folds,
        "twin": found.twin is not None,
        "values": [list(map(str, value)) for value in at.values],
    }
    return TaskGeometryFinding(
        table=table,
        provenance=provenance_of(
            store,
            parameters=parameters,
            seed=seed,
            started=started,
            call=f"task_geometry(store, conditions={list(at.names)!r}, targets={target!r})",
        ),
        notes=(*store.notes, *at.notes, *_cautions(at, task, table, store, sites)),
    )


def _rules(ccgp: Rule | Sequence[Rule]) -> tuple[Rule, ...]:
    rules: tuple[Rule, ...] = (ccgp,) if isinstance(ccgp, str) else tuple(ccgp)
    wrong = [rule for rule in rules if rule not in ("paired", "all")]
    if wrong:
        raise ValueError(f"ccgp is 'paired', 'all' or both, not {wrong[0]!r}")
    return rules


def _layers(layer: int | str | Sequence[int | str], inputs: str | Tensor) -> Any:
    """What a model must be extracted at: the sites, and the inputs."""
    if isinstance(inputs, Tensor) or (layer == "all" and inputs == "embed"):
        return layer
    return [*([layer] if isinstance(layer, (int, str)) else layer), inputs]


def _table(
    source: Source, sites: Sequence[str], inputs: str | Tensor, task: Task, progress: bool
) -> pd.DataFrame:
    import pandas as pd
    from tqdm.auto import tqdm

    lines = _lines(source.store, sites, inputs, task)
    if source.twin is not None:
        fresh = _lines(source.twin, sites, inputs, task)
        lines = (one | _twin(two) for one, two in zip(lines, fresh, strict=True))
    table = pd.DataFrame(list(tqdm(lines, "task geometry", unit="line", disable=not progress)))
    reference = table.loc[table["measure"] == "input_target_alignment", "value"].iloc[0]
    aligned = table["measure"].isin(["input_alignment", "target_alignment"])
    table.loc[aligned, "baseline"] = reference
    at = task.conditions
    table["n"] = len(at.codes)
    table["n_groups"] = int(at.groups.max()) + 1
    table["n_conditions"] = len(at)
    table["layer"] = table["layer"].astype("Int64")
    return table[[column for column in COLUMNS if column in table]]


def _lines(
    store: Store, sites: Sequence[str], inputs: str | Tensor, task: Task
) -> Iterable[dict[str, Any]]:
    sample = task.conditions.sample
    if isinstance(inputs, Tensor):
        given, name = rows_of(inputs, store, sample.index, "inputs"), "inputs"
    else:
        given, name = sample.read(store, _input_site(store, inputs)), inputs
    entering = task.grams(given)
    first = alignments(task, "input_target_alignment", entering, task.targets)
    yield {"site": name, "layer": layer_of(name), **first}

    def lines(site: str) -> list[dict[str, Any]]:
        x = sample.read(store, site)
        grams = task.grams(x)
        every = [
            alignments(task, "input_alignment", grams, entering),
            alignments(task, "target_alignment", grams, task.targets),
            *measure(task, x, grams),
        ]
        return [{"site": site, "layer": layer_of(site), **line} for line in every]

    width = max(store.sites[site].width for site in sites)
    taken = 8.0 * width * (3 * len(sample) + 3 * width)
    for found in side_by_side(lines, sites, item_bytes=taken):
        yield from found


def _input_site(store: Store, inputs: str) -> str:
    if inputs not in store.sites:
        default = " (the default)" if inputs == "embed" else ""
        raise LookupError(
            f"inputs={inputs!r}{default} is not in this store, which has {', '.join(store.sites)}; "
            f"store it too, extract(model, corpus, [{inputs!r}, 'all']), or pass inputs= one of these, "
            "or a tensor with one row for each row of the store"
        )
    return inputs


def _twin(line: dict[str, Any]) -> dict[str, Any]:
    return {"twin": line["value"], "twin_low": line["ci_low"], "twin_high": line["ci_high"]}


def _cautions(
    at: Conditions, task: Task, table: pd.DataFrame, store: Store, sites: Sequence[str]
) -> list[str]:
    notes = []
    if not task.dichotomies:
        notes.append(
            "no dichotomy: parallelism and CCGP need two values of one label column in at least two "
            "values of the others; only alignments, dimension and shattering were measured"
        )
    if len(at) < 6:
        notes.append(
            f"{len(at)} conditions have few orders, so nulls that permute them are coarse, and "
            "include the tested division itself"
        )
    groups = int(at.groups.max()) + 1
    if groups < 20:
        notes.append(f"intervals rest on {groups} groups only, and are likely too narrow")
    width = max(store.sites[site].width for site in sites)
    train = len(at.codes) * (task.conditions.folds.max()) // (task.conditions.folds.max() + 1)
    if train < width:
        notes.append(
            f"{train:,} training rows for {width:,} features: the noise covariance is mostly shrinkage, "
            "and with more features than rows any division of the training rows can be learnt; the "
            "null of held-out rows (about 0.5) is what chance gives"
        )
    unsure = table["value"].isna() & (table["measure"] != "parallelism")
    if unsure.any():
        notes.append(f"{int(unsure.sum())} values cannot be computed: no spread between conditions")
    notes.append("a geometry shows what a layer makes easy to read, not what the model uses")
    return notes
