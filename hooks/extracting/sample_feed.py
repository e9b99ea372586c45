"""Samples to shards: tensors for models that do not read text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from layerscope.hooks.extracting.gather import reduce_sample

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.corpus import SampleBatch, Samples

SAMPLE_RULES = ("mean", "flatten", "positions")
BATCH = {"cpu": 64, "cuda": 512}
MOST_SAMPLES = 100_000
"""Samples of one shard at most, however narrow the rows."""


@dataclass(frozen=True)
class SampleStep:
    """A batch of samples."""

    batch: SampleBatch
    rule: str
    positions: int
    """Rows that a sample makes where nothing is masked."""
    first_row: int
    """Row of the shard at which this batch begins."""

    @property
    def kept(self) -> np.ndarray:
        """`[samples, positions]`, true where there is a row."""
        n = self.batch.stop - self.batch.start
        mask = self.batch.mask
        if self.rule == "positions" and mask is not None and mask.shape[1] == self.positions:
            return mask.numpy()
        return np.ones((n, self.positions), dtype=bool)

    @property
    def count(self) -> int:
        return int(self.kept.sum())

    @property
    def place(self) -> Tensor:
        return torch.arange(self.first_row, self.first_row + self.count)

    def inputs(
        self, device: torch.device, dtype: torch.dtype
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def send(x: Tensor) -> Tensor:
            return x.to(device, dtype if x.is_floating_point() else None, non_blocking=True)

        kwargs = {name: send(x) for name, x in self.batch.kwargs.items()}
        return tuple(send(x) for x in self.batch.args), kwargs

    def rows(self, site: str, x: Tensor) -> Tensor:
        n = self.batch.stop - self.batch.start
        mask = self.batch.mask
        if self.rule == "mean" and mask is not None and x.ndim == 3 and x.shape[1] == mask.shape[1]:
            weight = mask.to(x.device, x.dtype).unsqueeze(-1)
            return (x * weight).sum(1) / weight.sum(1).clamp_min(1)
        rows = reduce_sample(x, self.rule, n)
        if self.positions and rows.shape[1] != self.positions:
            raise ValueError(
                f"{site} gives {rows.shape[1]} rows for each sample where other sites give "
                f"{self.positions}; extract it by itself, or use rows='mean'"
            )
        kept = self.kept
        return rows.flatten(0, 1) if kept.all() else rows[torch.from_numpy(kept).to(rows.device)]

    def halves(self) -> tuple[SampleStep, SampleStep] | None:
        n = self.batch.stop - self.batch.start
        if n < 2:
            return None
        left = SampleStep(self.batch.cut(0, n // 2), self.rule, self.positions, self.first_row)
        rest = self.batch.cut(n // 2, n)
        return left, SampleStep(rest, self.rule, self.positions, self.first_row + left.count)

    def columns(self) -> dict[str, Any]:
        """The row table of this batch, column by column."""
        kept = self.kept
        sample, position = np.nonzero(kept)
        start = self.batch.start
        groups = self.batch.groups
        names = np.arange(start, self.batch.stop).astype(str) if groups is None else groups
        columns = {"sample": sample + start, "position": position, "group": names[sample]}
        for name, values in self.batch.labels.items():
            if values.ndim == 1:
                columns[name] = values[sample]
            elif values.shape[1] == self.positions and self.rule == "positions":
                columns[name] = values[kept]
        return columns


@dataclass(frozen=True)
class SampleShard:
    """Consecutive samples that become one file."""

    parts: tuple[SampleStep, ...]

    @property
    def rows(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def info(self) -> dict[str, int]:
        return {"samples": sum(part.batch.stop - part.batch.start for part in self.parts)}

    def steps(self, batch: int) -> Iterator[SampleStep]:
        for part in self.parts:
            yield from _pieces(part, batch)

    def table(self) -> pd.DataFrame:
        import pandas as pd

        return pd.concat([pd.DataFrame(part.columns()) for part in self.parts], ignore_index=True)

    def describe(self, row: int) -> str:
        line = self.table().iloc[row]
        return f"sample {line['sample']}, position {line['position']}"


class SampleFeed:
    """Samples, batch by batch."""

    unit = "sample"

    def __init__(self, samples: Samples, rule: str) -> None:
        if rule not in SAMPLE_RULES:
            raise ValueError(
                f"rows={rule!r} is unknown for samples; there is: {', '.join(SAMPLE_RULES)}"
            )
        self.samples, self.rule = samples, rule
        self.name = samples.name
        self.identity = {
            "tokenizer": None,
            "corpus": samples.fingerprint,
            "rows": {"rule": rule},
        }

    def __len__(self) -> int:
        return len(self.samples)

    def first(self) -> SampleStep:
        """The first sample, all its positions."""
        return SampleStep(next(self.samples.batches(1)), self.rule, 0, 0)

    def plan(self, room: float, rows_of_first: int, device: str) -> dict[str, int]:
        """Samples of a shard for files of about `room` rows, and of a batch."""
        shard = int(min(max(room / rows_of_first, 1), MOST_SAMPLES))
        batch = BATCH.get(device, BATCH["cuda"])
        return {"shard": shard, "batch": batch, "positions": rows_of_first}

    def shards(self, plan: Mapping[str, int]) -> Iterator[tuple[int, Callable[[], SampleShard]]]:
        parts: list[SampleBatch] = []
        size = 0
        for batch in self.samples.batches(min(plan["batch"], plan["shard"])):
            parts.append(batch)
            size += batch.stop - batch.start
            if size >= plan["shard"]:
                yield size, self._prepare(parts, plan["positions"])
                parts, size = [], 0
        if parts:
            yield size, self._prepare(parts, plan["positions"])

    def notes(self, info: Mapping[str, int]) -> list[str]:
        return list(self.samples.notes)

    def _prepare(self, parts: list[SampleBatch], positions: int) -> Callable[[], SampleShard]:
        def prepare() -> SampleShard:
            steps: list[SampleStep] = []
            row = 0
            for batch in parts:
                steps.append(SampleStep(batch, self.rule, positions, row))
                row += steps[-1].count
            return SampleShard(tuple(steps))

        return prepare


def _pieces(step: SampleStep, batch: int) -> Iterator[SampleStep]:
    """The step in parts of at most `batch` samples."""
    if step.batch.stop - step.batch.start <= batch:
        yield step
        return
    for half in step.halves() or ():
        yield from _pieces(half, batch)
