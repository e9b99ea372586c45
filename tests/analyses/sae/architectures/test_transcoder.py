"""Transcoders: any architecture, from one site to another."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from layerscope.analyses.sae.architectures.batchtopk import BatchTopK
from layerscope.analyses.sae.architectures.catalogue import ARCHITECTURES, by_name
from layerscope.analyses.sae.architectures.jumprelu import JumpReLU
from layerscope.analyses.sae.architectures.topk import TopK
from layerscope.analyses.sae.architectures.transcoder import Transcoder

INNER = [name for name in ARCHITECTURES if name not in ("transcoder", "crosscoder")]


def rows(d: int = 6, seed: int = 3) -> torch.Tensor:
    return 2 * torch.randn(1, 50, d, generator=torch.Generator().manual_seed(seed))


def started(weights: Any, architecture: Any, x: torch.Tensor) -> Any:
    found = architecture.extra(weights, x)
    weights.extra = {name: tensor.clone().requires_grad_() for name, tensor in found.items()}
    return weights


@pytest.mark.parametrize("name", INNER)
def test_with_its_input_as_target_it_is_the_sae(
    name: str, make_weights: Any, make_moment: Any
) -> None:
    found = []
    for architecture in (
        by_name("transcoder", inner=name),
        by_name(name, subtract_b_dec=False),
    ):
        weights = started(make_weights(latents=40), architecture, rows())
        loss = architecture.loss(weights, rows(), rows(), make_moment(3, 40))
        loss.total.sum().backward()
        found.append((loss.total, *(tensor.grad for tensor in weights.named().values())))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", INNER)
def test_to_a_site_of_another_width_with_a_skip_path(
    name: str, make_weights: Any, make_moment: Any
) -> None:
    architecture = by_name("transcoder", inner=name, skip=True)
    weights = make_weights(group=2, latents=40, d_in=6, d_out=9)
    weights = started(weights, architecture, rows())
    assert weights.extra["W_skip"].shape == (2, 6, 9)
    assert weights.extra["W_skip"].abs().max() == 0
    with torch.no_grad():
        weights.extra["W_skip"].normal_(generator=torch.Generator().manual_seed(0))
    y = rows(9, seed=4)
    moment = make_moment(2, 40)
    # Until the smoothed threshold is that of the batch.
    for _ in range(2000 if "batch" in name or name == "matryoshka" else 1):
        loss = architecture.loss(weights, rows(), y, moment)
    loss.total.sum().backward()
    assert weights.extra["W_skip"].grad.abs().max() > 0
    sae = architecture.export(weights, 1, moment)
    assert (sae.d_in, sae.d_out) == (6, 9)
    error = (y[0] - sae(rows()[0])).square().sum(-1).mean()
    assert error.item() == pytest.approx(loss.error[1].item(), rel=1e-3)


def test_what_the_skip_path_can_say_alone_leaves_no_error(
    make_weights: Any, make_moment: Any
) -> None:
    past = torch.randn(1, 6, 9, generator=torch.Generator().manual_seed(0))
    architecture = Transcoder(inner=TopK(k=(3,)), skip=True)
    weights = started(make_weights(group=1, d_out=9), architecture, rows())
    with torch.no_grad():
        weights.decoder.zero_()
        weights.b_dec.zero_()
        weights.extra["W_skip"].copy_(past)
    loss = architecture.loss(weights, rows(), rows() @ past, make_moment(1, 24))
    assert loss.error.item() < 1e-9


def test_constraints_are_those_of_the_architecture_within() -> None:
    within = Transcoder(inner=JumpReLU(l0=(3.0, 4.0)))
    assert within.betas == JumpReLU.betas
    assert within.l0 == (3.0, 4.0)  # type: ignore[attr-defined]
    assert not by_name("transcoder", inner="relu_april").unit_decoder
    assert by_name("transcoder", inner="relu").unit_decoder
    assert not Transcoder(inner=BatchTopK()).inner.subtract_b_dec


def test_thresholds_within_are_kept_above_zero(make_weights: Any) -> None:
    architecture = by_name("transcoder", inner="jumprelu")
    weights = started(make_weights(group=1), architecture, rows())
    with torch.no_grad():
        weights.extra["slow_threshold"].fill_(-1.0)
    architecture.after_step(weights)
    assert weights.extra["slow_threshold"].abs().max() == 0


def test_a_bias_of_another_site_cannot_be_subtracted() -> None:
    with pytest.raises(ValueError, match="subtract_b_dec must be False"):
        Transcoder(inner=TopK(), subtract_b_dec=True)
    with pytest.raises(ValueError, match="never subtracts b_dec"):
        by_name("transcoder", inner="topk", subtract_b_dec=True)
