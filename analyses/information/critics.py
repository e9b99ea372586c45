"""Variational bounds by a small trained network: the last resort, seed-noisy and expensive.

A critic f(x, y) is trained to tell pairs that belong together from pairs that do not, and valued on
rows that it has not seen. InfoNCE (van den Oord et al. 2018), NWJ (Nguyen, Wainwright & Jordan
2010), DV or MINE (Belghazi et al. 2018), SMILE (Song & Ermon 2020). No bound that holds with
confidence exceeds about log rows (McAllester & Stratos 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import log
from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn

Objective = Literal["infonce", "nwj", "dv", "smile"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)
BATCH = 256
"""Rows in a step and in a valuation; InfoNCE cannot exceed its logarithm."""
_EVERY = 50
_PATIENCE = 6


@dataclass(frozen=True)
class Training:
    """How a critic is trained."""

    hidden: tuple[int, int] = (32, 16)
    """Units of its two layers."""
    batch: int = BATCH
    steps: int = 2000
    """At most; it stops when the rows kept for that show no gain any more."""
    lr: float = 5e-3
    clip: float = 5.0
    """SMILE: the critic is clipped to this many nats either way where pairs are mixed."""
    seed: int = 0


def infonce(x: Tensor, y: Tensor, training: Training | None = None) -> float:
    """Lower bound in nats, at most the logarithm of the batch: little variance."""
    return critic_value(x, y, "infonce", training)


def nwj(x: Tensor, y: Tensor, training: Training | None = None) -> float:
    """Lower bound in nats: unbiased, of a variance that grows like exp of the information."""
    return critic_value(x, y, "nwj", training)


def dv(x: Tensor, y: Tensor, training: Training | None = None) -> float:
    """Donsker and Varadhan's bound in nats; a bound up to the bias of a log of a mean."""
    return critic_value(x, y, "dv", training)


def smile(x: Tensor, y: Tensor, training: Training | None = None) -> float:
    """DV with a clipped partition, of a critic trained to classify pairs; no bound, less variance."""
    return critic_value(x, y, "smile", training)


def critic_value(
    x: Tensor, y: Tensor, objective: Objective, training: Training | None = None
) -> float:
    """Train on 40 % of the rows, stop by 10 %, and value on the other half.

    Args:
        x: ``[rows, width]``
        y: ``[rows, width]``
        objective: Which bound.

    Raises:
        ValueError: another bound, or fewer than 10 rows.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective is one of {', '.join(OBJECTIVES)}, not {objective!r}")
    if len(x) < 10 or len(x) != len(y):
        raise ValueError(f"a critic needs 10 pairs or more, got {len(x)} and {len(y)} rows")
    training = training or Training()
    generator = torch.Generator().manual_seed(training.seed)
    order = torch.randperm(len(x), generator=generator).to(x.device)
    trained, stopping, held = order.tensor_split([len(x) * 4 // 10, len(x) // 2])
    x, y = _standardised(x, trained), _standardised(y.to(x.device), trained)
    critic = _Critic(x.shape[1], y.shape[1], training.hidden, generator).to(x.device)
    _train(critic, (x, y), trained, stopping, objective, training, generator)
    return _valued(critic, x[held], y[held], objective, training)


def bound_of(scores: Tensor, objective: Objective, clip: float = 5.0) -> Tensor:
    """The bound from the scores ``[batch, batch]`` of every x with every y; pairs on the diagonal."""
    own, count = scores.diagonal(), len(scores)
    if objective == "infonce":
        return (own - scores.logsumexp(1)).mean() + log(count)
    others = ~torch.eye(count, dtype=torch.bool, device=scores.device)
    mixed = scores[others]
    if objective == "nwj":
        return own.mean() - (mixed - 1).exp().mean()
    if objective == "smile":
        mixed = mixed.clamp(-clip, clip)
    return own.mean() - (mixed.logsumexp(0) - log(len(mixed)))


class _Critic(nn.Module):
    """A network of both; its first layer is linear, so each side enters it only once."""

    def __init__(self, dx: int, dy: int, hidden: tuple[int, int], generator: Generator) -> None:
        super().__init__()
        # skip_init: their own initial weights would come from the global generator
        made = partial(nn.utils.skip_init, nn.Linear)
        self.x, self.y = made(dx, hidden[0]), made(dy, hidden[0], bias=False)
        self.inner, self.out = made(*hidden), made(hidden[1], 1)
        with torch.no_grad():
            for layer in (self.x, self.y, self.inner, self.out):
                nn.init.kaiming_uniform_(layer.weight, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``[rows of x, rows of y]``"""
        both = (self.x(x)[:, None] + self.y(y)[None]).relu()
        found: Tensor = self.out(self.inner(both).relu())[..., 0]
        return found


def _train(
    critic: _Critic,
    pairs: tuple[Tensor, Tensor],
    trained: Tensor,
    stopping: Tensor,
    objective: Objective,
    training: Training,
    generator: Generator,
) -> None:
    x, y = pairs
    optimiser = torch.optim.Adam(critic.parameters(), lr=training.lr)
    batch = min(training.batch, len(trained))
    best, since, kept = -float("inf"), 0, critic.state_dict()
    for step in range(1, training.steps + 1):
        rows = trained[torch.randint(len(trained), (batch,), generator=generator).to(x.device)]
        optimiser.zero_grad(set_to_none=True)
        _loss(critic(x[rows], y[rows]), objective).backward()
        optimiser.step()
        if step % _EVERY:
            continue
        found = _valued(critic, x[stopping], y[stopping], objective, training)
        since = 0 if found > best else since + 1
        if found > best:
            best, kept = found, {k: v.clone() for k, v in critic.state_dict().items()}
        if since >= _PATIENCE:
            break
    critic.load_state_dict(kept)


def _loss(scores: Tensor, objective: Objective) -> Tensor:
    if objective != "smile":
        return -bound_of(scores, objective)
    others = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    softplus = nn.functional.softplus
    return softplus(-scores.diagonal()).mean() + softplus(scores[others]).mean()


@torch.no_grad()
def _valued(
    critic: _Critic, x: Tensor, y: Tensor, objective: Objective, training: Training
) -> float:
    """Mean over whole batches, so that every batch has the same ceiling."""
    batch = min(training.batch, len(x))
    starts = range(0, len(x) - batch + 1, batch)
    found = [
        bound_of(critic(x[i : i + batch], y[i : i + batch]).double(), objective, training.clip)
        for i in starts
    ]
    return float(torch.stack(found).mean())


def _standardised(x: Tensor, rows: Tensor) -> Tensor:
    wide = x.double()
    spread = wide[rows].std(0)
    return ((wide - wide[rows].mean(0)) / spread.masked_fill(spread == 0, 1.0)).float()
