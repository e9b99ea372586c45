"""A network of one hidden layer: the capacity contrast to a linear probe.

The networks of all folds and targets are one stacked model that is trained by batched products.
Adam works element by element, so each is trained as it would be alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from layerscope.probes.kinds.kind import LabelKind, Predictions, Work
from layerscope.probes.kinds.linear import inner
from layerscope.probes.reading.labels import Task
from layerscope.probes.readouts.mlp import MLPReadout
from layerscope.probes.solving.design import Design
from layerscope.probes.solving.engine import Engine
from layerscope.probes.solving.solver import full_precision


@dataclass(frozen=True)
class MLP(LabelKind):
    """One hidden layer of rectified units, Adam, stopped early on a fold of the training rows.

    It reads what a linear probe reads and more, and remembers more: compare the controls, not only
    the values. It is trained on one fold less than a linear probe, the one that stops it.
    """

    name = "mlp"
    tasks = ("class", "number")
    rule = (
        "features standardised on training rows; the epoch of least loss on another fold of the "
        "training rows, which the weights do not see"
    )

    hidden: int = 128
    """Units."""
    epochs: int = 200
    """The most there may be."""
    patience: int = 3
    """Epochs without a lower loss after which a network is done."""
    batch: int = 256
    """Rows in a step."""
    lr: float = 2e-3
    weight_decay: float = 1e-2
    """Decoupled from the gradient (AdamW)."""

    def __post_init__(self) -> None:
        for name in ("hidden", "epochs", "patience", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def estimator(self, task: Task) -> str:
        return f"MLP, {self.hidden} hidden units"

    def solved_by(self, engine: Engine, task: Task) -> str:
        return f"Adam, torch on {engine.device}"

    def predict(self, work: Work) -> Predictions:
        folds = work.design.folds
        nets = [
            Net(target, inner(fold, folds), inner(fold, folds)[1])
            for target in range(len(work.targets))
            for fold in folds
        ]
        trained = train(self, work, nets)
        scores = [trained.scores(i, work.design.fold(net.without[0])) for i, net in enumerate(nets)]
        per_target = torch.cat(scores).view(len(work.targets), len(work.design.x), -1)
        values = per_target.argmax(-1) if work.classes else per_target[..., 0].double()
        epochs = trained.epochs[: len(folds)]
        return Predictions(
            values.cpu().numpy(),
            unfinished=sum(count >= self.epochs for count in trained.epochs),
            columns={"epochs": median(epochs)},
        )

    def fit(self, work: Work, classes: tuple[Any, ...]) -> MLPReadout:
        nets = [Net(0, (fold,), fold) for fold in work.design.folds]
        epochs = median(train(self, work, nets).epochs)
        # An epoch of all rows has more steps, and steps are what a network learns by.
        steps = max(1, round(epochs * _Orders(work, nets).steps(self.batch)))
        return train(self, work, [Net(0, (), None)], steps=steps).readout(classes)


@dataclass(frozen=True)
class Net:
    """One network to train."""

    target: int
    without: tuple[int, ...]
    """Folds its weights must not see."""
    stop: int | None
    """The fold whose loss chooses the epoch; None: the last epoch."""


@dataclass(frozen=True)
class Trained:
    """Networks side by side, in the coordinates of the design."""

    work: Work
    parts: tuple[Tensor, ...]
    """Hidden weights ``[nets, width, units]`` and biases, output weights and biases."""
    mean: Tensor
    unscale: Tensor
    """``[nets, 1, width]`` each: how a network standardises rows of the design."""
    center: Tensor
    spread: Tensor
    """``[nets, 1, 1]`` each: what its outputs are scaled back by; 0 and 1 for classes."""
    epochs: tuple[int, ...]
    """Of each network, the one that was kept."""

    def scores(self, net: int, rows: slice) -> Tensor:
        """``[rows, outputs]`` of one network."""
        x = self.work.design.x[rows, :-1]
        z = (x - self.mean[net]) * self.unscale[net]
        first, first_bias, second, second_bias = (part[net] for part in self.parts)
        scores = (z @ first + first_bias).relu() @ second + second_bias
        return scores * self.spread[net] + self.center[net]

    def readout(self, classes: tuple[Any, ...]) -> MLPReadout:
        """The first network, for activations as the model gives them."""
        design = self.work.design
        first, first_bias, second, second_bias = (part[0].cpu() for part in self.parts)
        unscale, spread = self.unscale[0, 0].cpu(), self.spread[0, 0].cpu()
        hidden = (first.T * unscale).contiguous()
        return MLPReadout(
            hidden=hidden,
            hidden_bias=first_bias[0] - hidden @ self.mean[0, 0].cpu(),
            weight=(second.T * spread).contiguous(),
            bias=second_bias[0] * spread + self.center[0, 0].cpu(),
            mean=design.mean.cpu(),
            scale=design.scale.cpu(),
            classes=classes,
        )


def train(kind: MLP, work: Work, nets: Sequence[Net], *, steps: int | None = None) -> Trained:
    """All networks at once, from the same random start.

    Args:
        steps: So many, whatever the epochs; None goes by epochs and patience.
    """
    generator = torch.Generator().manual_seed(work.seed)
    with torch.inference_mode(False), torch.enable_grad(), full_precision():
        stack = _Stack(kind, work, nets, generator)
        orders = _Orders(work, nets)
        left = steps or kind.epochs * orders.steps(kind.batch)
        optimiser = torch.optim.AdamW(stack.parts, kind.lr, weight_decay=kind.weight_decay)
        best = [part.detach().clone() for part in stack.parts]
        least = torch.full((len(nets),), torch.inf)
        kept = torch.zeros(len(nets), dtype=torch.long)
        done = torch.zeros(len(nets), dtype=torch.bool)
        for epoch in range(1, -(-left // orders.steps(kind.batch)) + 1):
            batches = orders.batches(kind.batch)[:left]
            left -= len(batches)
            for rows in batches:
                optimiser.zero_grad()
                stack.loss(rows).backward()
                optimiser.step()
            now = stack.held_out_losses(least)
            # One that is done keeps what it has, however long those beside it go on.
            better = (now < least) & ~done
            least, kept = torch.where(better, now, least), torch.where(better, epoch, kept)
            for held, part in zip(best, stack.parts, strict=True):
                held[better] = part.detach()[better]
            done |= epoch - kept >= kind.patience
            if bool(done.all()):
                break
    return stack.trained(best, kept.tolist())


class _Stack:
    """The networks while they learn."""

    def __init__(
        self, kind: MLP, work: Work, nets: Sequence[Net], generator: torch.Generator
    ) -> None:
        self.work, self.nets = work, nets
        design, device = work.design, work.design.x.device
        spreads = [design.spread(net.without) for net in nets]
        scale = torch.stack([spread.scale for spread in spreads])
        self.mean = torch.stack([spread.mean for spread in spreads]).float()[:, None]
        self.unscale = torch.where(scale > 0, 1 / scale.clamp_min(1e-300), 0.0).float()[:, None]
        self.center, self.spread = self._outputs()
        self.which = torch.tensor([net.target for net in nets], device=device)[:, None]
        outputs = work.classes or 1
        sizes = ((design.width, kind.hidden), (kind.hidden, outputs))
        self.parts: list[Tensor] = []
        for size in sizes:
            start = torch.randn(size, generator=generator) * (2 / size[0]) ** 0.5
            for part in (start, torch.zeros(1, size[1])):
                stacked = part.expand(len(nets), *part.shape).to(device).contiguous()
                self.parts.append(stacked.clone().requires_grad_())

    def loss(self, rows: Tensor) -> Tensor:
        """Summed over networks, averaged over each one's rows ``[nets, batch]``."""
        rows = rows.to(self.which.device)
        z = (self.work.design.x[rows][..., :-1] - self.mean) * self.unscale
        first, first_bias, second, second_bias = self.parts
        units = torch.baddbmm(first_bias, z, first).relu()
        scores = torch.baddbmm(second_bias, units, second)
        truth = self.work.targets[self.which, rows]
        return self._losses(scores, truth, self.center, self.spread).mean(1).sum()

    @torch.no_grad()
    def held_out_losses(self, least: Tensor) -> Tensor:
        """``[nets]`` on the fold that stops each; always less than `least` where there is none."""
        found = least - 1
        found[least.isinf()] = 0.0
        state = self.trained([part.detach() for part in self.parts], [])
        for i, net in enumerate(self.nets):
            if net.stop is not None:
                rows = self.work.design.fold(net.stop)
                scores = (state.scores(i, rows) - self.center[i]) / self.spread[i]
                truth = self.work.targets[net.target, rows]
                center, spread = self.center[i, 0], self.spread[i, 0]
                found[i] = self._losses(scores, truth, center, spread).mean().item()
        return found

    def trained(self, parts: Sequence[Tensor], epochs: Sequence[int]) -> Trained:
        return Trained(
            self.work,
            tuple(parts),
            self.mean,
            self.unscale,
            self.center,
            self.spread,
            tuple(epochs),
        )

    def _losses(self, scores: Tensor, truth: Tensor, center: Tensor, spread: Tensor) -> Tensor:
        """One for each row: nats, or squared errors in units of the target's variance."""
        if self.work.classes:
            return torch.nn.functional.cross_entropy(
                scores.flatten(0, -2), truth.flatten(), reduction="none"
            ).view(truth.shape)
        wanted = (truth - center.squeeze(-1)) / spread.squeeze(-1)
        return (scores[..., 0] - wanted.float()).square()

    def _outputs(self) -> tuple[Tensor, Tensor]:
        design, device = self.work.design, self.work.design.x.device
        center = torch.zeros(len(self.nets), 1, 1, device=device)
        spread = torch.ones(len(self.nets), 1, 1, device=device)
        if not self.work.classes:
            for i, net in enumerate(self.nets):
                values = self.work.targets[net.target, _training(design, net.without).to(device)]
                center[i], spread[i] = values.mean(), values.std().clamp_min(1e-12)
        return center, spread


def _training(design: Design, without: tuple[int, ...]) -> Tensor:
    """Numbers of the rows of the other folds."""
    parts = [design.fold(fold) for fold in design.folds if fold not in without]
    return torch.cat([torch.arange(part.start, part.stop) for part in parts])


class _Orders:
    """The order in which each network sees its training rows, the same whoever is beside it."""

    def __init__(self, work: Work, nets: Sequence[Net]) -> None:
        self.keys = [net.without for net in nets]
        self.rows = {key: _training(work.design, key) for key in self.keys}
        self.generators = {key: torch.Generator().manual_seed(work.seed) for key in self.keys}

        self.longest = max(map(len, self.rows.values()))

    def steps(self, size: int) -> int:
        """Batches of an epoch."""
        return -(-self.longest // size)

    def batches(self, size: int) -> list[Tensor]:
        """Row numbers ``[nets, batch]`` of an epoch, in parts of at most `size`.

        The parts are as equal as can be: Adam would take a full step for a last one of a few rows.
        """
        orders = {}
        for key, rows in self.rows.items():
            mixed = rows[torch.randperm(len(rows), generator=self.generators[key])]
            # Folds differ by a few rows: the shorter ones see some of theirs a second time.
            orders[key] = mixed.repeat(-(-self.longest // len(rows)))[: self.longest]
        stacked = torch.stack([orders[key] for key in self.keys])
        return list(stacked.tensor_split(self.steps(size), 1))
