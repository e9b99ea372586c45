"""Findings of different models side by side: which belong together, and where they differ."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from layerscope.report.layers import layers_of, named, union
from layerscope.report.tables import digits, number

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.finding import Finding

NOT_ASKED = ("layer_evaluations", "stores", "solver", "noise_sd", "fit_rows")
"""Parameters that came out of the model or say what an answer cost, not what was asked; by their
beginning."""
NUMBERED_KEYS = ("layer", "other_layer", "head", "position", "source", "target", "blocks")
"""Columns of whole numbers that say which row this is, not what was measured."""
MEASURES = ("part", "measure")
"""Columns that say what was measured."""


def asked(finding: Finding) -> dict[str, Any]:
    """The settings of a finding."""
    given = finding.provenance.parameters
    return {name: value for name, value in given.items() if not name.startswith(NOT_ASKED)}


def side_by_side(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings in sets: of one question, the same data and the same settings, each of another model.

    The sets stand in the order of their first findings. A second finding of the same model, and
    one whose model is not known, opens a set of its own.
    """
    sets: list[list[Finding]] = []
    open_sets: dict[str, list[Finding]] = {}
    for finding in findings:
        kind = f"{type(finding).__module__}.{type(finding).__qualname__}"
        of = [kind, finding.question, data_name(finding.provenance.data), asked(finding)]
        key = json.dumps(of, sort_keys=True)
        there = open_sets.get(key)
        model = finding.provenance.model
        if there and model and model not in {one.provenance.model for one in there}:
            there.append(finding)
            continue
        open_sets[key] = [finding]
        sets.append(open_sets[key])
    return sets


def data_name(data: str) -> str:
    """Without what a model's own tokenizer makes of it.

    >>> data_name("books[:60], 8 windows"), data_name("books: 900 tokens"), data_name("20 prompts")
    ('books[:60]', 'books', '20 prompts')
    """
    return re.split(r"[,:] \d", data)[0]


def names_of(findings: Sequence[Finding]) -> list[str]:
    """What the models are called beside each other: the end of a path, or all before the first comma.

    Names that would be the same are told in full.
    """
    full = [finding.provenance.model for finding in findings]
    brief = [short(name) for name in full]
    return brief if len(set(brief)) == len(brief) else full


def short(model: str) -> str:
    """Without class, folders and size.

    >>> short("LlamaForCausalLM at /data/stories260K/hf, 260,032 parameters"), short("gpt2")
    ('stories260K/hf', 'gpt2')
    """
    name = model.rpartition(" at ")[2].partition(",")[0]
    return "/".join(name.rstrip("/").split("/")[-2:])


def differences(findings: Sequence[Finding], names: Sequence[str]) -> pd.DataFrame | None:
    """The values of several models at the same points, the largest difference first.

    Where a table holds several measures they stay apart, in the order of the table: differences of
    different things have no common order. A column for each model, ``difference`` (of two models the
    second less the first, of more the largest less the smallest) and, where all tables have intervals,
    ``intervals``: ``apart`` where those of some two models do not overlap, ``overlap`` where those of
    all do, empty where one is missing. None where the tables have no value, other units than each
    other, or no point in common.
    """
    import pandas as pd

    tables = [finding.table for finding in findings]
    if any("value" not in table or _units(table) != _units(tables[0]) for table in tables):
        return None
    keys = _keys(tables)
    indexed = [table.set_index(keys) for table in tables if keys]
    if not keys or any(not table.index.is_unique for table in indexed):
        return None
    values = pd.concat([table["value"] for table in indexed], axis=1, keys=names, join="inner")
    values = values.dropna()
    if values.empty:
        return None
    spread = values.max(axis=1) - values.min(axis=1)
    gap = values.iloc[:, 1] - values.iloc[:, 0] if len(names) == 2 else spread
    found = values.assign(difference=gap)
    if all({"ci_low", "ci_high"} <= set(table) for table in indexed):
        low, high = (_joined(indexed, end, found.index) for end in ("ci_low", "ci_high"))
        known = low.notna().all(axis=1) & high.notna().all(axis=1)
        apart = low.max(axis=1) > high.min(axis=1)
        found["intervals"] = apart.map({True: "apart", False: "overlap"}).where(known, "")
    return _ordered(found.assign(_spread=spread).reset_index(), keys)


def largest(found: pd.DataFrame, names: Sequence[str], unit: str) -> str:
    """One sentence on the first line of `differences`, which of several measures is the first's."""
    line = found.iloc[0]
    measures = [key for key in MEASURES if key in found]
    alike = found[(found[measures] == line[measures]).all(axis=1)]
    decimals = digits(float(alike[list(names)].abs().to_numpy().max()))
    added = (*names, *measures, "difference", "intervals")
    keys = ", ".join(str(line[key]) for key in map(str, found) if key not in added)
    each = ", ".join(f"{number(float(line[name]), decimals)} in {name}" for name in names)
    how = {"apart": "; the intervals do not overlap", "overlap": "; the intervals overlap"}
    told = how.get(str(line.get("intervals")), "")
    of = ", ".join(filter(None, [*(str(line[key]) for key in measures), unit]))
    place = f" is at {keys}" if keys else ""
    return f"The largest difference{f' in {of}' if of else ''}{place}: {each}{told}."


def depths(findings: Sequence[Finding], names: Sequence[str]) -> str:
    """What to know where tables reach to blocks of other numbers; empty where they do not."""
    last = [max(union(layers_of(finding.table)), default=None) for finding in findings]
    if len(set(last)) == 1:
        return ""
    told = ", ".join(
        f"in {name} {named(n)}" for name, n in zip(names, last, strict=True) if n is not None
    )
    return (
        f"The models differ in depth (the last is {told}): they are compared block by block of the "
        "same number, which is not the same share of the way."
    )


def _ordered(found: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    measures = [key for key in MEASURES if key in keys]
    places = {key: list(dict.fromkeys(found[key])) for key in measures}
    order = [
        tuple(places[key].index(line[key]) for key in measures) for _, line in found.iterrows()
    ]
    largest_first = sorted(range(len(found)), key=lambda i: (order[i], -found["_spread"].iloc[i]))
    # The site says the layer already.
    implied = [key for key in ("layer", "other_layer") if "site" in keys and key in keys]
    return found.iloc[largest_first].drop(columns=["_spread", *implied]).reset_index(drop=True)


def _units(table: pd.DataFrame) -> set[str]:
    return set(map(str, table["unit"].unique())) if "unit" in table else set()


def _keys(tables: Sequence[pd.DataFrame]) -> list[str]:
    """Columns of all the tables that name a row: words, and numbers of layers, heads and places."""
    from pandas.api.types import is_numeric_dtype

    def names_rows(table: pd.DataFrame, name: str) -> bool:
        if is_numeric_dtype(table[name].dtype):
            return name in NUMBERED_KEYS
        return bool(table[name].map(lambda cell: isinstance(cell, str)).all())

    left_out = ("unit", "estimator")
    names = [
        str(name)
        for name in tables[0]
        if name not in left_out
        and all(name in table and names_rows(table, str(name)) for table in tables)
    ]
    # What is the same all down a table tells no rows apart, and may name the model.
    varied = [name for name in names if any(table[name].nunique() > 1 for table in tables)]
    return varied or [name for name in names if len({*(t[name].iloc[0] for t in tables)}) == 1][:1]


def _joined(tables: Sequence[pd.DataFrame], column: str, index: pd.Index[Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([table[column].reindex(index) for table in tables], axis=1)
