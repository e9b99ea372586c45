"""A group of SAEs while they are trained: weights, moments, silence, and one step."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from layerscope.analyses.sae.architectures.architecture import Loss, Moment, Weights
from layerscope.analyses.sae.fitting.dead import Silence
from layerscope.analyses.sae.fitting.inputs import Inputs
from layerscope.analyses.sae.fitting.optimiser import Optimiser
from layerscope.analyses.sae.fitting.plan import Plan
from layerscope.analyses.sae.fitting.schedule import Schedule
from layerscope.analyses.sae.rows.folding import fold, fold_decoder_norms
from layerscope.analyses.sae.sae import SAE


class Group:
    """SAEs trained together. What happens to one never hangs on the others."""

    def __init__(self, plan: Plan, inputs: Inputs, weights: Weights, device: torch.device) -> None:
        self.plan = plan
        self.inputs = inputs
        self.weights = weights
        self._device = device
        self._schedule = Schedule(plan.steps)
        self._optimiser = Optimiser(weights, plan.architecture, plan.rates, plan.clip)
        self._silence = Silence.none(plan.group, plan.latents, plan.dead_after, device)
        self._moment = Moment(
            dead=self._silence.dead,
            most_dead=0,
            threshold=torch.zeros(plan.group, dtype=torch.float64, device=device),
        )

    @classmethod
    def start(cls, plan: Plan, inputs: Inputs, sample: dict[str, Tensor]) -> Group:
        """Initial weights; `sample` holds raw rows of each site."""
        x, y = inputs(sample)
        generators = [torch.Generator().manual_seed(seed) for seed in plan.seeds]
        weights = plan.architecture.initial(plan.latents, x.shape[-1], y.shape[-1], generators)
        weights = _leaves(weights, x.device)
        weights.extra = plan.architecture.extra(weights, x)
        return cls(plan, inputs, _leaves(weights, x.device), x.device)

    def step(self, number: int, rows: dict[str, Tensor]) -> tuple[Loss, Tensor]:
        """One batch of raw rows by site: the loss, and the variance of the targets [group or 1]."""
        x, y = self.inputs(rows)
        moment = self._moment
        moment.steps, moment.warm = number + 1, self._schedule.penalty(number)
        half = self.plan.precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            loss = self.plan.architecture.loss(self.weights, x, y, moment)
        loss.total.sum().backward()
        self._optimiser.step(self._schedule.rate(number))
        self.plan.architecture.after_step(self.weights)
        self._silence.saw(loss.active, x.shape[1])
        self._count_dead()
        loss.total = loss.total.detach()
        return loss, (y - y.mean(1, keepdim=True)).square().sum(-1).mean(-1)

    def rate(self, number: int) -> float:
        return self._schedule.rate(number)

    @property
    def dead_share(self) -> Tensor:
        """Part of the latents that are dead now, [group]."""
        return self._moment.dead.float().mean(-1)

    def end(self) -> None:
        """Give back what only further steps need: Adam's moments, room for pre-activations."""
        del self._optimiser
        self._moment = replace(self._moment, _wide=None)

    def saes(self) -> list[SAE]:
        """As they are used: raw units, decoder rows of norm 1 where that changes nothing."""
        return [self._sae(member) for member in range(self.plan.group)]

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name."""
        weights = {f"weights.{name}": tensor for name, tensor in self.weights.named().items()}
        rest = {"silence": self._silence.rows, "threshold": self._moment.threshold}
        return weights | self._optimiser.state() | rest | self.inputs.state()

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor], steps: int) -> None:
        """Take up what `state` gave after so many steps."""
        self._moment.steps = steps
        for name, tensor in self.weights.named().items():
            tensor.copy_(state[f"weights.{name}"])
        self._optimiser.restore(state)
        self._silence.rows.copy_(state["silence"])
        self._moment.threshold.copy_(state["threshold"])
        self._count_dead()

    def _count_dead(self) -> None:
        self._moment.dead = self._silence.dead
        self._moment.most_dead = int(self._moment.dead.sum(-1).max())

    @torch.no_grad()
    def _sae(self, member: int) -> SAE:
        trained = self.plan.architecture.export(self.weights, member, self._moment)
        sites, targets = self.plan.inputs[member], self.plan.targets[member]
        into = self.inputs.unit(sites)
        out = None if targets == sites else self.inputs.unit(targets)
        sae = fold(trained, into, out)
        if into.one_factor and (out is None or out.one_factor):
            sae = fold_decoder_norms(sae)
        return sae


def _leaves(weights: Weights, device: torch.device) -> Weights:
    """The same numbers as tensors that collect gradients."""

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().float().to(device, copy=True).contiguous().requires_grad_()

    return replace(
        weights,
        encoder=leaf(weights.encoder),
        b_enc=leaf(weights.b_enc),
        decoder=leaf(weights.decoder),
        b_dec=leaf(weights.b_dec),
        extra={name: leaf(tensor) for name, tensor in weights.extra.items()},
    )
