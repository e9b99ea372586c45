"""The codelength at one site, in several orders, beside what the same code costs without it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import log2
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.probes.coding.online import Code, Order, frequency_code, online_code, orders
from layerscope.probes.reading.rows import Plan
from layerscope.probes.scoring.controls import control_labels
from layerscope.probes.scoring.evaluate import check_finite
from layerscope.probes.scoring.intervals import GroupBootstrap
from layerscope.probes.solving.engine import Solver, engine

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sending:
    """All that the sites of one table share: rows, tasks, orders, resamples."""

    plan: Plan
    fractions: tuple[float, ...]
    smoothing: float
    l2: float | None
    count: int
    """Orders."""
    control: bool = True
    solver: Solver = "auto"
    device: str | None = None
    seed: int = 0

    @property
    def rows(self) -> int:
        return len(self.plan.index)

    @property
    def uniform(self) -> float:
        """Bits of one label that is sent with uniform probabilities."""
        return log2(len(self.plan.classes))

    @cached_property
    def orders(self) -> list[Order]:
        return orders(self.plan.groups, fractions=self.fractions, count=self.count, seed=self.seed)

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """``[tasks, rows]``: the label, and the control task where there is one."""
        tasks = [self.plan.values]
        if self.control and self.plan.types is not None:
            tasks.append(control_labels(self.plan.types, self.plan.values, seed=self.seed))
        return np.stack(tasks)

    @cached_property
    def bootstrap(self) -> GroupBootstrap:
        return GroupBootstrap(self.plan.groups, seed=self.seed)

    @cached_property
    def frequencies(self) -> Floats:
        """``[orders, rows]`` bits by class frequencies alone."""
        classes = len(self.plan.classes)
        return np.stack(
            [
                frequency_code(self.plan.values, classes, order, smoothing=self.smoothing)
                for order in self.orders
            ]
        )

    def codes(self, site: str, x: Tensor, tasks: int | None = None) -> list[Code]:
        """One code for each order.

        Args:
            x: ``[rows, width]`` activations in the order of the plan.
            tasks: Only the first so many.

        Raises:
            ValueError: activations that are NaN or infinite.
        """
        check_finite(site, x, self.plan.index)
        solver: Solver = "torch" if self.solver == "auto" else self.solver
        by = engine(solver, 0, device=self.device)
        targets = torch.from_numpy(self.targets[:tasks])
        classes = len(self.plan.classes)
        return [
            online_code(x, targets, classes, order, by, l2=self.l2, smoothing=self.smoothing)
            for order in self.orders
        ]

    def compression(self, bits: Floats) -> tuple[float, float, float]:
        """Uniform bits over these, with an interval that covers other groups and other orders.

        Args:
            bits: ``[orders, rows]``; each resample of the groups takes one of the orders.
        """
        groups, count = self.plan.groups, self.bootstrap.count
        sums = np.stack([np.bincount(groups, row, count) for row in bits])
        sizes = np.bincount(groups, minlength=count)
        times = self.bootstrap.times.astype(np.float64)
        taken = np.arange(len(times)) % len(bits)
        drawn = self.uniform * (times @ sizes) / np.einsum("dg,dg->d", times, sums[taken])
        low, high = np.percentile(drawn, [2.5, 97.5])
        return float(self.uniform * self.rows / bits.sum(1).mean()), float(low), float(high)

    def line(self, codes: list[Code]) -> dict[str, Any]:
        """The columns of one site."""
        bits = np.stack([code.bits[0] for code in codes])
        value, low, high = self.compression(bits)
        line: dict[str, Any] = {"value": value, "ci_low": low, "ci_high": high}
        lengths = self.uniform * self.rows / bits.sum(1)
        line["order_sd"] = float(lengths.std(ddof=1)) if len(codes) > 1 else float("nan")
        line["bits"] = float(bits.sum(1).mean())
        line["bits_per_label"] = float(bits.mean())
        line["accuracy"] = self._last_accuracy(codes)
        line["baseline"] = self.compression(self.frequencies)[0]
        line["baseline_bits_per_label"] = float(self.frequencies.mean())
        if len(codes[0].bits) > 1:
            control = np.stack([code.bits[1] for code in codes])
            value, low, high = self.compression(control)
            line |= {"control": value, "control_low": low, "control_high": high}
            line["control_bits_per_label"] = float(control.mean())
            line["selectivity"] = line["value"] - value
        line["lambda"] = float(np.median([code.penalties[-1] for code in codes]))
        line["unfinished"] = sum(code.unfinished for code in codes)
        return line

    def curve(self, codes: list[Code], twin: list[Code] | None) -> list[dict[str, Any]]:
        """One line per block: bits per label against the rows seen before it."""
        columns = {
            "value": np.stack([code.bits[0] for code in codes]),
            "baseline": self.frequencies,
        }
        if len(codes[0].bits) > 1:
            columns["control"] = np.stack([code.bits[1] for code in codes])
        if twin is not None:
            columns["twin"] = np.stack([code.bits[0] for code in twin])
        lines = []
        for block, cells in self._blocks.items():
            seen = [start for _, start, _ in cells]
            line: dict[str, Any] = {"block": block, "rows_seen": float(np.mean(seen))}
            for name, bits in columns.items():
                sent = [bits[order, self.orders[order].index[a:b]] for order, a, b in cells]
                line[name] = float(np.concatenate(sent).mean())
            lines.append(line)
        return lines

    @cached_property
    def _blocks(self) -> dict[int, list[tuple[int, int, int]]]:
        """Number of a block by the fractions -> its (order, first row, end) in each order."""
        wanted = np.array(self.fractions) * self.rows
        found: dict[int, list[tuple[int, int, int]]] = {}
        for number, order in enumerate(self.orders):
            for start, stop in zip(order.bounds, order.bounds[1:], strict=False):
                block = int(np.searchsorted(wanted, start + 0.5))
                found.setdefault(block, []).append((number, start, stop))
        return dict(sorted(found.items()))

    def _last_accuracy(self, codes: list[Code]) -> float:
        """Share of the last block that the probe of all rows before it gets right."""
        last = [order.index[order.bounds[-2] :] for order in self.orders]
        hits = [code.hits[0, rows] for code, rows in zip(codes, last, strict=True)]
        return float(np.concatenate(hits).mean())
