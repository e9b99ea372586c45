"""Which tokens and which layer make the best vector of a text: a table of poolings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layerscope.hooks.sites import layer_of
from layerscope.probes.kinds.kind import Asked, SourceKind
from layerscope.probes.mixing.pool import POOLINGS, TAIL, pooled
from layerscope.probes.mixing.pooling_finding import COLUMNS, PoolingFinding
from layerscope.probes.mixing.readings import Readings
from layerscope.probes.reading.labels import Task
from layerscope.probes.reading.rows import Plan
from layerscope.probes.reading.sources import Source
from layerscope.probes.reading.stored import stored_sites
from layerscope.probes.reading.texts import Texts, plan_of, texts_of
from layerscope.probes.readouts.pooled import PooledReadout
from layerscope.probes.scoring.provenance import provenance
from layerscope.probes.solving.parallel import side_by_side

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.store import Store

_ALWAYS = (
    "the control is the same probe on one random label per text, or per group where a group has one "
    "label; gain is the difference from the last token at the same site, on the same texts"
)


@dataclass(frozen=True)
class Pooling(SourceKind):
    """A linear probe of every pooling at every site, cross-validated by group."""

    name = "pooling"
    rows = "tokens"
    whole_texts = True

    poolings: tuple[str, ...] = POOLINGS
    """Of ``"last"``, ``"mean"``, ``"max"``, ``"first"``, ``"tail"``."""
    tail: int = TAIL
    """Tokens at the end that ``"tail"`` takes the mean of."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.poolings if name not in POOLINGS]
        if unknown or not self.poolings:
            raise ValueError(f"poolings are some of {', '.join(POOLINGS)}; got {self.poolings!r}")
        if self.tail < 1:
            raise ValueError(f"tail must be at least 1, got {self.tail}")

    def measure(self, source: Source, asked: Asked) -> PoolingFinding:
        """Scores at every site.

        Raises:
            ValueError: a label that belongs to words, texts of one row each, or see `rows.plan`.
        """
        from tqdm.auto import tqdm

        texts = texts_of(source.store, asked.label)
        if texts.lengths.max() == 1:
            raise ValueError(
                "every text has a single row, so there is nothing to pool; extract rows='tokens'"
            )
        chosen = _plan(texts, asked)
        readings = Readings(
            chosen,
            _types(chosen) if asked.control else None,
            asked.solver,
            asked.device,
            asked.seed,
        )
        _ = readings.targets, readings.scales, readings.bootstrap  # before the threads

        def lines(site: str) -> list[dict[str, Any]]:
            return self._site(source, site, texts, readings)

        width = max(source.store.sites[site].width for site in source.sites)
        taken = 4.0 * width * len(chosen.index) * (len(self.poolings) + 3)
        found = side_by_side(lines, source.sites, item_bytes=taken)
        total = len(source.sites)
        shown = tqdm(found, "pooling", total, unit="site", disable=not asked.progress)
        table = _table([line for site in shown for line in site], readings)
        return PoolingFinding(
            table=table,
            provenance=provenance(source, self, asked, label=chosen.label, task=chosen.task),
            notes=(*source.store.notes, *texts.notes, *chosen.notes, *_cautions(chosen, table)),
        )

    def _site(
        self, source: Source, site: str, texts: Texts, readings: Readings
    ) -> list[dict[str, Any]]:
        chosen = readings.plan.index
        vectors = pooled(source.store, site, texts, chosen, self.poolings, tail=self.tail)
        fresh = {}
        if source.twin is not None:
            fresh = pooled(source.twin, site, texts, chosen, self.poolings, tail=self.tail)
        found = {name: readings.read(f"{site} ({name})", x) for name, x in vectors.items()}
        lines = []
        for name, reading in found.items():
            line: dict[str, Any] = {
                "site": site,
                "layer": layer_of(site),
                "pooling": self._called(name),
            }
            line |= readings.line(reading)
            if name in fresh:
                twin = readings.line(readings.read(f"{site} of the twin", fresh[name], tasks=1))
                line |= {"twin": twin["value"]}
                line |= {"twin_low": twin["ci_low"], "twin_high": twin["ci_high"]}
            if "last" in found and name != "last":
                line |= readings.gain(reading.losses[0], found["last"].losses[0])
            lines.append(line)
        return lines

    def _called(self, name: str) -> str:
        return f"last {self.tail}" if name == "tail" else name

    def fit(
        self,
        store: Store,
        site: str | int,
        label: str | None = None,
        *,
        pooling: str = "mean",
        task: Task | None = None,
        max_rows: int = 50_000,
        folds: int = 5,
        seed: int = 0,
    ) -> PooledReadout:
        """The readout of one pooling at one site, trained on all texts; as `fit_readout`."""
        from layerscope.probes.fitting import fit

        name = stored_sites(store, site)[0]
        texts = texts_of(store, label)
        chosen = _plan(texts, Asked(task=task, folds=folds, max_rows=max_rows, seed=seed))
        x = pooled(store, name, texts, chosen.index, (pooling,), tail=self.tail)[pooling]
        y = [chosen.classes[code] for code in chosen.values] if chosen.classes else chosen.values
        linear: Any = fit(x, y, groups=chosen.groups, task=chosen.task, folds=folds, seed=seed)
        return PooledReadout(
            weight=linear.weight,
            bias=linear.bias,
            mean=linear.mean,
            scale=linear.scale,
            l2=linear.l2,
            classes=linear.classes,
            pooling=pooling,
            tail=self.tail if pooling == "tail" else 1,
            site=name,
            label=texts.label,
            about={"store_key": store.key, "texts": len(x)},
        )


def _plan(texts: Texts, asked: Asked) -> Plan:
    frame = texts.frame
    if "group" not in frame:
        frame = frame.assign(group=np.arange(len(frame)))
    return plan_of(frame, texts.label, asked)


def _types(chosen: Plan) -> NDArray[np.int64]:
    """What gets one random label each: groups where each has a single label, else texts."""
    sizes = np.bincount(chosen.groups)
    sums, squares = (np.bincount(chosen.groups, chosen.values.astype(float) ** p) for p in (1, 2))
    if np.allclose(squares / sizes, (sums / sizes) ** 2):
        return chosen.groups
    return np.arange(len(chosen.values))


def _cautions(chosen: Plan, table: pd.DataFrame) -> list[str]:
    notes = [_ALWAYS]
    if "gain" in table and not (table["gain_low"] > 0).any():
        notes.append("no pooling is reliably better than the last token at its site")
    train, width = len(chosen.index) * (chosen.folds - 1) // chosen.folds, table["width"].max()
    if train < 2 * width:
        notes.append(
            f"{train:,} training texts for {width:,} features: below two rows a feature a linear "
            "probe can separate random labels, so hold values against control"
        )
    notes.append("the first token of a text may be an attention sink with the same state always")
    return notes


def _table(lines: list[dict[str, Any]], readings: Readings) -> pd.DataFrame:
    import pandas as pd

    task = "logistic, L2" if readings.plan.classes else "ridge"
    shared = readings.shared() | {"estimator": f"{task}, on pooled tokens"}
    table = pd.DataFrame([line | shared for line in lines])
    table["layer"] = table["layer"].astype("Int64")
    return table[[column for column in COLUMNS if column in table]]
