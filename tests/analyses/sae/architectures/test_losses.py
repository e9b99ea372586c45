"""Every loss and every gradient against a second implementation: one SAE, dense, by autograd.

What is written here shares no code with the package: the losses of methods and papers, member by
member. That a group gives what its members give apart is part of the comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from layerscope.analyses.sae.architectures.afa import AFA
from layerscope.analyses.sae.architectures.architecture import Architecture, Weights
from layerscope.analyses.sae.architectures.batchtopk import BatchTopK
from layerscope.analyses.sae.architectures.crosscoder import Crosscoder
from layerscope.analyses.sae.architectures.gated import Gated
from layerscope.analyses.sae.architectures.jumprelu import JumpReLU
from layerscope.analyses.sae.architectures.matryoshka import Matryoshka
from layerscope.analyses.sae.architectures.relu import ReLU, ReLUApril
from layerscope.analyses.sae.architectures.topk import TopK
from layerscope.analyses.sae.architectures.transcoder import Transcoder

ROWS = 40
LATENTS = 24


class One:
    """The tensors of one SAE, with the published names."""

    def __init__(self, weights: Weights, member: int, x: Tensor, subtract: bool) -> None:
        self.leaves = {
            name: tensor[member].detach().clone().requires_grad_()
            for name, tensor in weights.named().items()
        }
        self.W_enc = self.leaves["encoder"].T
        self.b_enc = self.leaves["b_enc"]
        self.W_dec = self.leaves["decoder"]
        self.b_dec = self.leaves["b_dec"]
        self.x = x - self.b_dec if subtract else x
        self.pre = self.x @ self.W_enc + self.b_enc

    def error(self, y: Tensor, codes: Tensor) -> Tensor:
        return ((y - codes @ self.W_dec - self.b_dec) ** 2).sum(1).mean()


def naive_aux(one: One, y: Tensor, codes: Tensor, dead: Tensor) -> Tensor:
    if not dead.any():
        return y.new_zeros(())
    e = (y - codes @ one.W_dec - one.b_dec).detach()
    half = max(1, e.shape[1] // 2)
    k = min(half, int(dead.sum()))
    places = one.pre.masked_fill(~dead, -1e9).topk(k, dim=1).indices
    mask = torch.zeros_like(one.pre).scatter(1, places, 1.0) * dead
    left = ((e - (one.pre.relu() * mask) @ one.W_dec) ** 2).sum(1).mean()
    spread = ((e - e.mean(0)) ** 2).sum(1).mean()
    return min(int(dead.sum()) / half, 1.0) * left / spread / 32


def naive_topk(one: One, y: Tensor, dead: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
    border = one.pre.sort(dim=1, descending=True).values[:, k - 1 : k]
    codes = one.pre.relu() * (one.pre >= border)
    return one.error(y, codes) + naive_aux(one, y, codes, dead), codes


def batch_mask(pre: Tensor, k: int) -> Tensor:
    border = pre.flatten().sort(descending=True).values[k * len(pre) - 1]
    return (pre >= border) & (pre > 0)


def naive_batchtopk(one: One, y: Tensor, dead: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
    codes = one.pre.relu() * batch_mask(one.pre, k)
    return one.error(y, codes) + naive_aux(one, y, codes, dead), codes


def naive_matryoshka(
    one: One, y: Tensor, dead: Tensor, *, k: int, widths: tuple[int, ...], level_weights: Any
) -> tuple[Tensor, Tensor]:
    codes = one.pre.relu() * batch_mask(one.pre, k)
    total = naive_aux(one, y, codes, dead)
    for width, weight in zip(widths, level_weights, strict=True):
        written = codes[:, :width] @ one.W_dec[:width] + one.b_dec
        total = total + weight * ((y - written) ** 2).sum(1).mean()
    return total, codes


def naive_relu(one: One, y: Tensor, dead: Tensor, *, l1: float) -> tuple[Tensor, Tensor]:
    codes = one.pre.relu()
    return one.error(y, codes) + l1 * codes.sum(1).mean(), codes


def naive_april(one: One, y: Tensor, dead: Tensor, *, l1: float) -> tuple[Tensor, Tensor]:
    codes = one.pre.relu()
    return one.error(y, codes) + l1 * (codes * one.W_dec.norm(dim=1)).sum(1).mean(), codes


def naive_crosscoder(
    one: One, y: Tensor, dead: Tensor, *, l1: float, parts: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    codes = one.pre.relu()
    total = y.new_zeros(())
    for site, to, back in zip(
        y.split(parts, 1), one.W_dec.split(parts, 1), one.b_dec.split(parts), strict=True
    ):
        total = total + ((site - codes @ to - back) ** 2).sum(1).mean()
        total = total + l1 * (codes * to.norm(dim=1)).sum(1).mean()
    return total, codes


def naive_gated(one: One, y: Tensor, dead: Tensor, *, l1: float) -> tuple[Tensor, Tensor]:
    r_mag, b_mag = one.leaves["r_mag"], one.leaves["b_mag"]
    # Two products, as in the paper.
    pi = one.x @ one.W_enc + one.b_enc
    magnitude = (one.x @ (one.W_enc * r_mag.exp()) + b_mag).relu()
    codes = (pi > 0).float() * magnitude
    by_gate = pi.relu() @ one.W_dec.detach() + one.b_dec.detach()
    penalty = l1 * pi.relu().sum(1).mean() + ((y - by_gate) ** 2).sum(1).mean()
    return one.error(y, codes) + penalty, codes


def naive_jumprelu(
    one: One,
    y: Tensor,
    dead: Tensor,
    *,
    l0: float,
    strength: float,
    penalty: str = "quadratic",
    bandwidth: float,
    to_input: bool = False,
) -> tuple[Tensor, Tensor]:
    threshold = 10 * one.leaves["slow_threshold"]
    width = bandwidth * one.pre.detach().std()
    pre = one.pre if to_input else one.pre.detach()
    # A ramp of this slope has the step's assumed derivative; its value is taken off again.
    ramp = ((pre - threshold) / width + 0.5).clamp(0, 1)
    step = (one.pre > threshold).float() + ramp - ramp.detach()
    codes = one.pre * (one.pre > threshold) + threshold.detach() * (ramp - ramp.detach())
    if penalty == "tanh":
        norms = one.W_dec.norm(dim=1)
        size = strength * torch.tanh(4 * codes * norms).sum(1).mean()
        short = 3e-6 * ((threshold - one.pre).relu() * norms * dead).sum(1).mean()
        return one.error(y, codes) + size + short, codes
    if penalty == "step":
        return one.error(y, codes) + strength * step.sum(1).mean(), codes
    power = ((y - y.mean(0)) ** 2).sum(1).mean().detach()
    return one.error(y, codes) + strength * power * (step.sum(1).mean() / l0 - 1) ** 2, codes


def naive_afa(
    one: One, y: Tensor, dead: Tensor, *, afa: float, paper_exact: bool = False
) -> tuple[Tensor, Tensor]:
    norms = one.W_dec.detach().norm(dim=1)
    if paper_exact:
        one.pre = one.x @ one.W_enc
    centred = one.x.detach().norm(dim=1)
    mask = torch.zeros_like(one.pre)
    for row in range(len(y)):
        a = one.pre[row].relu().detach() * norms
        order = a.argsort(descending=True, stable=True)
        gaps = [
            1e4 if m == len(a) else abs(float(a[order[:m]].norm()) - float(centred[row]))
            for m in range(1, len(a) + 1)
        ]
        mask[row, order[: gaps.index(min(gaps)) + 1]] = 1
    codes = one.pre.relu() * mask
    if paper_exact:
        away = codes.norm(dim=1) - (one.x + one.b_dec).detach().norm(dim=1)
    else:
        away = (codes * norms).norm(dim=1) - centred
    total = one.error(y, codes) + y.shape[1] * afa * (away**2).mean()
    return total + naive_aux(one, y, codes, dead), codes


def naive_transcoder(
    one: One, y: Tensor, dead: Tensor, *, k: int, skip: bool
) -> tuple[Tensor, Tensor]:
    past = one.x @ one.leaves["W_skip"] if skip else 0.0
    return naive_topk(one, y - past, dead, k=k)


LEVELS = {"widths": (5, 11, LATENTS), "level_weights": (0.5, 2.0, 1.0)}
CASES: dict[str, tuple[Architecture, Callable[..., Any], list[dict[str, Any]]]] = {
    "topk, sparse": (
        TopK(k=(1, 3, 5), sparse=True),
        naive_topk,
        [{"k": 1}, {"k": 3}, {"k": 5}],
    ),
    "batchtopk, sparse": (
        BatchTopK(k=(1, 3, 9), sparse=True),
        naive_batchtopk,
        [{"k": 1}, {"k": 3}, {"k": 9}],
    ),
    "batchtopk, dense": (
        BatchTopK(k=(1, 3, 9), sparse=False),
        naive_batchtopk,
        [{"k": 1}, {"k": 3}, {"k": 9}],
    ),
    "matryoshka, sparse": (
        Matryoshka(k=(1, 3, 9), sparse=True, **LEVELS),
        naive_matryoshka,
        [{"k": 1, **LEVELS}, {"k": 3, **LEVELS}, {"k": 9, **LEVELS}],
    ),
    "matryoshka, dense": (
        Matryoshka(k=(3,), sparse=False, **LEVELS),
        naive_matryoshka,
        [{"k": 3, **LEVELS}] * 3,
    ),
    "relu": (ReLU(l1=(0.1, 1, 3.0)), naive_relu, [{"l1": 0.1}, {"l1": 1}, {"l1": 3.0}]),
    "relu_april": (
        ReLUApril(l1=(0.1, 1, 3.0)),
        naive_april,
        [{"l1": 0.1}, {"l1": 1}, {"l1": 3.0}],
    ),
    "crosscoder": (
        Crosscoder(l1=(0.1, 1, 3.0), parts=(1, 2, 3)),
        naive_crosscoder,
        [{"l1": l1, "parts": (1, 2, 3)} for l1 in (0.1, 1, 3.0)],
    ),
    "gated": (Gated(l1=(0.1, 1, 3.0)), naive_gated, [{"l1": 0.1}, {"l1": 1}, {"l1": 3.0}]),
    "jumprelu": (
        JumpReLU(l0=(2.0, 5.0, 9.0), strength=(0.3,), bandwidth=0.4),
        naive_jumprelu,
        [{"l0": l0, "strength": 0.3, "bandwidth": 0.4} for l0 in (2.0, 5.0, 9.0)],
    ),
    "jumprelu, step": (
        JumpReLU(penalty="step", strength=(0.3, 1.0, 2.0), bandwidth=0.4, to_input=True),
        naive_jumprelu,
        [
            {"l0": 1.0, "strength": s, "bandwidth": 0.4, "penalty": "step", "to_input": True}
            for s in (0.3, 1.0, 2.0)
        ],
    ),
    "jumprelu, tanh": (
        JumpReLU(penalty="tanh", strength=(0.3, 1.0, 2.0), bandwidth=0.4, to_input=True),
        naive_jumprelu,
        [
            {"l0": 1.0, "strength": s, "bandwidth": 0.4, "penalty": "tanh", "to_input": True}
            for s in (0.3, 1.0, 2.0)
        ],
    ),
    "afa, sparse": (AFA(afa=(0.1,), sparse=True), naive_afa, [{"afa": 0.1}] * 3),
    "afa, dense": (AFA(afa=(0.1,), sparse=False), naive_afa, [{"afa": 0.1}] * 3),
    "afa, paper": (
        AFA(afa=(0.1, 0.2, 0.3), paper_exact=True),
        naive_afa,
        [{"afa": a, "paper_exact": True} for a in (0.1, 0.2, 0.3)],
    ),
    "transcoder": (
        Transcoder(inner=TopK(k=(1, 3, 5), sparse=True)),
        naive_transcoder,
        [{"k": k, "skip": False} for k in (1, 3, 5)],
    ),
    "skip transcoder": (
        Transcoder(inner=TopK(k=(1, 3, 5), sparse=False), skip=True),
        naive_transcoder,
        [{"k": k, "skip": True} for k in (1, 3, 5)],
    ),
}


@pytest.mark.parametrize("own_rows", [False, True], ids=["same rows", "own rows"])
@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_equal_those_of_each_sae_alone(
    name: str, own_rows: bool, make_weights: Any, make_moment: Any
) -> None:
    architecture, naive, options = CASES[name]
    weights = make_weights(latents=LATENTS)
    own = torch.Generator().manual_seed(1)
    x = 2 * torch.randn(3 if own_rows else 1, ROWS, 6, generator=own)
    y = x
    if "transcoder" in name:
        y = torch.randn(*x.shape, generator=own)
    weights.extra = extras(architecture, weights, x, own)
    dead = torch.rand(3, LATENTS, generator=own) < 0.2
    dead[1] = False
    moment = make_moment(dead)

    loss = architecture.loss(weights, x, y, moment)
    loss.total.sum().backward()

    for member in range(3):
        place = member if own_rows else 0
        one = One(weights, member, x[place], architecture.subtract_b_dec)
        total, codes = naive(one, y[place], dead[member], **options[member])
        total.backward()
        assert loss.total[member].item() == pytest.approx(total.item(), rel=1e-5)
        torch.testing.assert_close(loss.active[member], (codes != 0).any(0))
        assert loss.l0[member] == pytest.approx(float((codes != 0).float().sum(1).mean()), rel=1e-6)
        for tensor_name, tensor in weights.named().items():
            assert tensor.grad is not None, tensor_name
            wanted = one.leaves[tensor_name].grad
            wanted = torch.zeros_like(tensor[member]) if wanted is None else wanted
            scale = float(wanted.abs().max()) or 1.0
            torch.testing.assert_close(
                tensor.grad[member] / scale,
                wanted / scale,
                rtol=1e-5,
                atol=1e-5,
                msg=lambda text, at=tensor_name: f"{at}: {text}",
            )


def extras(
    architecture: Architecture, weights: Weights, x: Tensor, own: torch.Generator
) -> dict[str, Tensor]:
    """Those of the architecture, moved off their start so that nothing cancels."""
    started = architecture.extra(weights, x)
    return {
        name: (tensor + (0.04 if "slow" in name else 0.4) * torch.rand(tensor.shape, generator=own))
        .detach()
        .requires_grad_()
        for name, tensor in started.items()
    }
