"""The loop of a training: rows, steps, history, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerscope.analyses.sae.architectures.architecture import Loss
from layerscope.analyses.sae.fitting.checkpoint import Checkpoint, header_of
from layerscope.analyses.sae.fitting.group import Group
from layerscope.analyses.sae.fitting.inputs import SAMPLE, Inputs
from layerscope.analyses.sae.fitting.interrupts import between_steps
from layerscope.analyses.sae.fitting.plan import Plan
from layerscope.analyses.sae.rows.source import Rows

LINES = 200
"""Moments that the history of a training has."""
CHECKPOINT_SECONDS = 60.0


class Training:
    """A group on its way from the first step to the last; with a folder, it survives a kill."""

    def __init__(self, plan: Plan, rows: Rows, folder: Path | None) -> None:
        self.plan = plan
        self._rows = rows
        self._folder = folder
        self._header = {} if folder is None else header_of(plan, rows)
        self.history: list[dict[str, Any]] = []
        self.first = 0
        """Steps that an earlier process had done."""
        found = None if folder is None else Checkpoint.read(folder, self._header)
        self.group = self._started(found)
        self._since = torch.zeros(5, plan.group, device=rows.device)
        self._earlier = 0.0
        if found is not None:
            self._take_up(found)

    def run(self, *, progress: bool = True) -> Group:
        """All steps that are left.

        Raises:
            FloatingPointError: a loss that is NaN or infinite; says whose, and what to change.
            KeyboardInterrupt: after the step and, where there is a folder, a checkpoint.
        """
        start = written = time.perf_counter()
        every = max(1, self.plan.steps // LINES)
        with _bar(self.plan, self.first, progress) as bar, between_steps() as interrupted:
            for number in range(self.first, self.plan.steps):
                self._step(number)
                done = number + 1
                bar.update(self.plan.batch)
                now = time.perf_counter()
                if done % every == 0 or done == self.plan.steps:
                    self._line(number, now - start + self._earlier)
                    bar.set_postfix_str(self._said(), refresh=False)
                stopped = interrupted()
                if stopped or now - written > CHECKPOINT_SECONDS or done == self.plan.steps:
                    self._checkpoint(done)
                    written = now
                if stopped:
                    raise KeyboardInterrupt(self._where(done))
        self.group.end()
        return self.group

    def _started(self, found: Checkpoint | None) -> Group:
        rows, plan = self._rows, self.plan
        sample = rows.sample(SAMPLE, seed=plan.order)
        named = dict(zip(rows.sites, sample, strict=True))
        if found is None:
            inputs = Inputs.fitted(plan, named)
        else:
            inputs = Inputs.restored(plan, found.tensors, rows.device)
        return Group.start(plan, inputs, named)

    def _step(self, number: int) -> None:
        batch = self._rows.next(self.plan.batch)
        named = dict(zip(self._rows.sites, batch, strict=True))
        loss, variance = self.group.step(number, named)
        self._since += torch.stack(self._seen(loss, variance))

    def _seen(self, loss: Loss, variance: Tensor) -> list[Tensor]:
        one = torch.ones_like(loss.error)
        return [one, loss.total, loss.error, variance.expand_as(loss.error), loss.l0]

    def _line(self, number: int, seconds: float) -> None:
        """One entry of the history for each SAE, about the steps since the last."""
        count, total, error, variance, l0 = self._since.cpu().double()
        self._since.zero_()
        self._refuse_broken(total, number)
        dead = self.group.dead_share.tolist()
        for member in range(self.plan.group):
            self.history.append(
                {
                    "member": member,
                    "step": number + 1,
                    "tokens": (number + 1) * self.plan.batch,
                    "loss": float(total[member] / count[member]),
                    "error": float(error[member] / count[member]),
                    "explained_variance": float(1 - error[member] / variance[member]),
                    "l0": float(l0[member] / count[member]),
                    "dead_share": dead[member],
                    "rate": self.plan.rates[member] * self.group.rate(number),
                    "seconds": seconds,
                }
            )

    def _refuse_broken(self, total: Tensor, number: int) -> None:
        broken = (~total.isfinite()).nonzero().flatten().tolist()
        if broken:
            raise FloatingPointError(
                f"the loss of {self.plan.names()[broken[0]]} is NaN or infinite by step "
                f"{number + 1}; lower lr ({self.plan.rates[broken[0]]:.2g} now), or train with "
                "precision='float32'"
            )

    def _said(self) -> str:
        last = self.history[-self.plan.group :]
        first = last[0]
        words = (
            f"loss {first['loss']:.3g}, EV {first['explained_variance']:.3f}, "
            f"L0 {first['l0']:.1f}, dead {first['dead_share']:.1%}"
        )
        return words if len(last) == 1 else f"{words} ({self.plan.names()[0]})"

    def _where(self, done: int) -> str:
        kept = "nothing was kept: pass to=FOLDER to go on next time"
        if self._folder is not None:
            kept = f"the same call goes on from {self._folder}"
        return f"stopped after {done:,} of {self.plan.steps:,} steps; {kept}"

    def _checkpoint(self, done: int) -> None:
        if self._folder is None:
            return
        rows = {f"rows.{name}": tensor for name, tensor in self._rows.state().items()}
        tensors = self.group.state() | rows | {"since": self._since}
        Checkpoint(tensors, done, self.history).write(self._folder, self._header)

    def _take_up(self, found: Checkpoint) -> None:
        self.group.restore(found.tensors, found.step)
        prefix = "rows."
        mine = {n: t for n, t in found.tensors.items() if n.startswith(prefix)}
        self._rows.restore({name.removeprefix(prefix): tensor for name, tensor in mine.items()})
        self._since.copy_(found.tensors["since"])
        self.first, self.history = found.step, found.history
        self._earlier = self.history[-1]["seconds"] if self.history else 0.0


@contextmanager
def _bar(plan: Plan, first: int, progress: bool) -> Iterator[Any]:
    from tqdm.auto import tqdm

    total = plan.steps * plan.batch
    with tqdm(
        total=total,
        initial=first * plan.batch,
        desc="train",
        unit="row",
        unit_scale=True,
        disable=not progress,
    ) as bar:
        yield bar
