"""Labels, read from each site by one kind of probe: the table, and what a reader must know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from layerscope.hooks.sites import layer_of
from layerscope.probes.finding import COLUMNS, ProbeFinding
from layerscope.probes.kinds import label_kind
from layerscope.probes.kinds.kind import Asked, Kind
from layerscope.probes.reading.duplicates import straddling
from layerscope.probes.reading.rows import Plan
from layerscope.probes.reading.sources import Source
from layerscope.probes.scoring.cautions import Line, cautions, joined, solvers
from layerscope.probes.scoring.ensemble import further_of, plans, same_rows
from layerscope.probes.scoring.evaluate import Designs, Measurement
from layerscope.probes.scoring.provenance import provenance
from layerscope.probes.solving.parallel import side_by_side

if TYPE_CHECKING:
    import pandas as pd


def measure_label(source: Source, kind: Kind, asked: Asked) -> ProbeFinding:
    """Cross-validated scores of one label, or of several, at every site.

    Raises:
        ValueError: a label is of a task that this kind cannot do, or see `rows.plan`.
    """
    store = source.store
    chosen = plans(store, asked.labels or [asked.label], asked)
    measured = [_measurement(source, kind, asked, one) for one in chosen]
    lines = _lines(measured, source, asked.progress)
    notes: dict[str, Sequence[str]] = {
        one.plan.label: (*one.plan.notes, *cautions(one, part))
        for one, part in zip(measured, lines, strict=True)
    }
    found: dict[str, Any] = {"solver": solvers([line for part in lines for line in part])}
    if asked.labels:
        found["label"] = [one.label for one in chosen]
    else:
        found |= {"label": chosen[0].label, "task": chosen[0].task}
    return ProbeFinding(
        table=_table(lines, measured),
        provenance=provenance(source, kind, asked, **found),
        notes=(*store.notes, *joined(notes)),
    )


def _measurement(source: Source, kind: Kind, asked: Asked, chosen: Plan) -> Measurement:
    return Measurement(
        chosen,
        label_kind(kind, chosen.task),
        solver=asked.solver,
        device=asked.device,
        seed=asked.seed,
        control=asked.control,
        further=further_of(source.store, kind, chosen),
    )


def _lines(measured: Sequence[Measurement], source: Source, progress: bool) -> list[list[Line]]:
    """The lines of each label, by site."""
    from tqdm.auto import tqdm

    shared = same_rows([one.plan for one in measured])

    def lines(site: str) -> list[Line]:
        found: dict[int, Line] = {}
        for group in shared:
            part = [measured[number] for number in group]
            found |= zip(group, _site(site, part, source), strict=True)
        return [found[number] for number in range(len(measured))]

    width = max(source.store.sites[site].width for site in source.sites)
    # float32 rows twice (as read, as standardised) and the second moments of each fold.
    taken = max(8 * width * (len(one.plan.index) + one.plan.folds * width) for one in measured)
    by_site = side_by_side(lines, source.sites, item_bytes=taken)
    name = f"probe {', '.join(one.plan.label for one in measured)}"
    bar = tqdm(by_site, name, len(source.sites), unit="site", disable=not progress)
    return [list(part) for part in zip(*bar, strict=True)]


def _site(site: str, measured: Sequence[Measurement], source: Source) -> list[Line]:
    """One line for each of the labels that share their rows."""
    index = measured[0].plan.index
    here: Designs = {}
    there: Designs = {}
    x = source.store[site][index]
    lines = [one.score(site, x, here) for one in measured]
    if source.twin is not None:
        x = source.twin[site][index]
        for one, line in zip(measured, lines, strict=True):
            line |= one.twin(site, x, there)
    design = next(iter(here.values()))
    about = {
        "site": site,
        "layer": layer_of(site),
        "constant": design.constant,
        "straddling": straddling(design),
    }
    return [about | line for line in lines]


def _table(lines: Sequence[Sequence[Line]], measured: Sequence[Measurement]) -> pd.DataFrame:
    import pandas as pd

    whole = [
        line | _shared(one) for part, one in zip(lines, measured, strict=True) for line in part
    ]
    table = pd.DataFrame(whole)
    table["layer"] = table["layer"].astype("Int64")
    table["n_classes"] = table["n_classes"].astype("Int64")
    own = [name for line in whole for name in line if name not in (*COLUMNS, *_INTERNAL)]
    order = (*COLUMNS, *dict.fromkeys(own))
    return table[[column for column in order if column in table]]


_INTERNAL = ("solver", "unfinished", "constant", "straddling")
"""What a line says to the notes and not to the table."""


def _shared(measured: Measurement) -> dict[str, Any]:
    import pandas as pd

    chosen = measured.plan
    classes = chosen.task == "class"
    return {
        "label": chosen.label,
        "n": len(chosen.index),
        "n_groups": int(chosen.groups.max()) + 1,
        "n_classes": len(chosen.classes) if classes else pd.NA,
        "unit": "accuracy" if classes else "R2",
        "estimator": measured.kind.estimator(chosen.task),
    }
