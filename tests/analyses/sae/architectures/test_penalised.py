"""ReLU, Gated, JumpReLU and crosscoders: identities between them, starts, and known pitfalls."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from layerscope.analyses.sae.architectures.crosscoder import Crosscoder
from layerscope.analyses.sae.architectures.dense import preactivations
from layerscope.analyses.sae.architectures.gated import Gated
from layerscope.analyses.sae.architectures.jumprelu import JumpReLU, thresholds
from layerscope.analyses.sae.architectures.relu import ReLU, ReLUApril


def rows(count: int = 50, d: int = 6, seed: int = 3) -> torch.Tensor:
    return 2 * torch.randn(1, count, d, generator=torch.Generator().manual_seed(seed))


def learnt(weights: Any, architecture: Any, x: torch.Tensor) -> Any:
    weights.extra = {
        name: tensor.clone().requires_grad_()
        for name, tensor in architecture.extra(weights, x).items()
    }
    return weights


# ReLU


def test_with_unit_rows_both_penalties_have_one_value(make_weights: Any, make_moment: Any) -> None:
    weights = make_weights()
    unit = ReLU(l1=(2.0,)).loss(weights, rows(), rows(), make_moment(3, 24))
    april = ReLUApril(l1=(2.0,)).loss(weights, rows(), rows(), make_moment(3, 24))
    torch.testing.assert_close(unit.total, april.total, rtol=1e-6, atol=0)
    assert ReLU.unit_decoder
    assert not ReLUApril.unit_decoder


def test_the_april_penalty_cannot_be_had_by_longer_rows(
    make_weights: Any, make_moment: Any
) -> None:
    weights = make_weights(group=1)
    sizes = []
    for factor in (1.0, 10.0):
        with torch.no_grad():
            for tensor in (weights.encoder, weights.b_enc):
                tensor.div_(factor)
            weights.decoder.mul_(factor)
        parts = [a.loss(weights, rows(), rows(), make_moment(1, 24)).parts["l1"].item()
                 for a in (ReLUApril(), ReLU())]  # fmt: skip
        sizes.append(parts)
    assert sizes[0][0] == pytest.approx(sizes[1][0], rel=1e-5)
    assert sizes[0][1] == pytest.approx(10 * sizes[1][1], rel=1e-5)


def test_the_penalty_warms_up(make_weights: Any, make_moment: Any) -> None:
    weights = make_weights(group=1)
    full = ReLU().loss(weights, rows(), rows(), make_moment(1, 24))
    half = ReLU().loss(weights, rows(), rows(), make_moment(1, 24, warm=0.5))
    assert half.parts["l1"].item() == pytest.approx(full.parts["l1"].item() / 2)
    assert half.error.item() == full.error.item()


def test_below_zero_no_gradient_leaks(make_weights: Any, make_moment: Any) -> None:
    for architecture in (ReLU(), ReLUApril(), Crosscoder(parts=(6,))):
        weights = make_weights(group=1)
        with torch.no_grad():
            weights.b_enc.fill_(-1e3)
        architecture.loss(weights, rows(), rows(), make_moment(1, 24)).total.sum().backward()
        assert weights.encoder.grad.abs().max() == 0
        assert weights.b_enc.grad.abs().max() == 0
        assert weights.decoder.grad.abs().max() == 0
        assert weights.b_dec.grad.abs().max() > 0


# Crosscoder


def test_a_crosscoder_of_one_site_is_the_april_sae(make_weights: Any, make_moment: Any) -> None:
    found = []
    for architecture in (
        Crosscoder(l1=(2.0,), parts=(6,)),
        ReLUApril(l1=(2.0,), subtract_b_dec=False),
    ):
        weights = make_weights(group=1)
        loss = architecture.loss(weights, rows(), rows(), make_moment(1, 24))
        loss.total.sum().backward()
        found.append((loss.total, *(tensor.grad for tensor in weights.named().values())))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_a_latent_of_one_site_pays_less_than_one_of_two(
    make_weights: Any, make_moment: Any
) -> None:
    # Rows of equal length, on one site or spread over both: sqrt(2) times the penalty.
    sizes = []
    for row in ([1.0, 0.0], [0.5**0.5, 0.5**0.5]):
        weights = make_weights(group=1, latents=4, d_in=2, d_out=2)
        with torch.no_grad():
            weights.decoder.copy_(torch.tensor(row).expand_as(weights.decoder))
        x = rows(d=2)
        sizes.append(
            Crosscoder(parts=(1, 1)).loss(weights, x, x, make_moment(1, 4)).parts["l1"].item()
        )
    assert sizes[1] / sizes[0] == pytest.approx(2**0.5, rel=1e-5)


def test_a_crosscoder_says_its_parts(make_weights: Any, make_moment: Any) -> None:
    sae = Crosscoder(parts=(2, 4)).export(make_weights(group=1), 0, make_moment(1, 24))
    assert sae.parts == (2, 4)
    assert not sae.subtract_b_dec


# Gated


def test_one_product_gives_both_paths(make_weights: Any, make_moment: Any) -> None:
    architecture = Gated()
    weights = learnt(make_weights(group=1), architecture, rows())
    own = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in weights.extra.values():
            tensor.copy_(0.5 * torch.randn(tensor.shape, generator=own))
    sae = architecture.export(weights, 0, make_moment(1, 24))
    x = rows()[0].double() - sae.b_dec.double()
    W_enc, r_mag = sae.W_enc.double(), sae.r_mag.double()  # type: ignore[union-attr]
    gate = x @ W_enc + sae.b_enc.double() > 0
    magnitude = x @ (W_enc * r_mag.exp()) + sae.b_mag.double()  # type: ignore[operator]
    torch.testing.assert_close(
        sae.encode(rows()[0]).double(), gate * magnitude.relu(), rtol=1e-5, atol=1e-5
    )


def test_at_the_start_a_gated_sae_is_a_relu_without_the_gates_bias(
    make_weights: Any, make_moment: Any
) -> None:
    weights = make_weights(group=1)
    with torch.no_grad():
        weights.b_enc.zero_()
    gated = Gated(l1=(0.0,)).loss(
        learnt(weights, Gated(), rows()), rows(), rows(), make_moment(1, 24)
    )
    relu = ReLU(l1=(0.0,)).loss(weights, rows(), rows(), make_moment(1, 24))
    assert gated.error.item() == pytest.approx(relu.error.item())
    assert gated.parts["gate"].item() == pytest.approx(relu.error.item())


def test_the_gate_teaches_the_encoder_and_not_the_decoder(
    make_weights: Any, make_moment: Any
) -> None:
    # SAELens lets the third term into the decoder.
    weights = learnt(make_weights(group=1), Gated(), rows())
    loss = Gated(l1=(0.0,)).loss(weights, rows(), rows(), make_moment(1, 24))
    loss.total.sum().backward()
    both = {name: tensor.grad for name, tensor in weights.named().items()}
    codes = Gated().export(weights, 0, make_moment(1, 24)).encode(rows()[0])
    error = rows()[0] - codes @ weights.decoder[0] - weights.b_dec[0]
    decoder, b_dec = torch.autograd.grad(
        error.square().sum(-1).mean(), [weights.decoder, weights.b_dec]
    )
    torch.testing.assert_close(both["decoder"], decoder, rtol=1e-5, atol=1e-5)
    # b_dec reaches the encoder as well, and there the third term has its say.
    assert not torch.allclose(both["b_dec"], b_dec, rtol=1e-3)


# JumpReLU


@pytest.mark.parametrize("l0", [1.0, 4.0, 9.0])
def test_thresholds_start_at_the_l0_that_is_aimed_at(
    l0: float, make_weights: Any, make_moment: Any
) -> None:
    architecture = JumpReLU(l0=(l0,))
    weights = learnt(make_weights(group=2), architecture, rows())
    loss = architecture.loss(weights, rows(), rows(), make_moment(2, 24))
    assert loss.l0.tolist() == pytest.approx([l0, l0], abs=0.03)
    assert loss.parts["quadratic"].max() < 1e-3 * loss.error.min()


def test_above_the_aim_thresholds_rise_and_below_they_fall(
    make_weights: Any, make_moment: Any
) -> None:
    for aim, sign in ((1.0, 1), (8.0, -1)):
        weights = learnt(make_weights(group=1), JumpReLU(l0=(3.0,)), rows())
        # A strength that leaves the error no say.
        architecture = JumpReLU(l0=(aim,), strength=(1e4,), bandwidth=0.3)
        loss = architecture.loss(weights, rows(), rows(), make_moment(1, 24))
        (gradient,) = torch.autograd.grad(loss.total.sum(), [weights.extra["slow_threshold"]])
        felt = gradient[gradient != 0]
        assert len(felt) > 12
        assert bool((-felt.sign() == sign).all())


def test_thresholds_are_raw_float32_and_stay_at_or_above_zero(make_weights: Any) -> None:
    architecture = JumpReLU()
    weights = learnt(make_weights(group=1), architecture, rows())
    assert thresholds(weights).dtype == torch.float32
    # Not a logarithm: half the parameter is half the threshold.
    first = thresholds(weights).clone()
    weights.extra["slow_threshold"].data.mul_(0.5)
    torch.testing.assert_close(thresholds(weights), first / 2)
    with torch.no_grad():
        weights.extra["slow_threshold"][0, :2] = torch.tensor([-1.0, 2.0])
    architecture.after_step(weights)
    assert thresholds(weights)[0, :2].tolist() == [0, 20]


def test_the_bandwidth_follows_the_scale_of_the_rows(make_weights: Any, make_moment: Any) -> None:
    # With a fixed one, few pre-activations of large rows would be near any threshold.
    near = []
    for scale in (1.0, 100.0):
        architecture = JumpReLU(l0=(3.0,), bandwidth=0.2, subtract_b_dec=False)
        weights = make_weights(group=1)
        with torch.no_grad():
            weights.b_enc.zero_()
            weights.b_dec.zero_()
        weights = learnt(weights, architecture, scale * rows())
        loss = architecture.loss(weights, scale * rows(), scale * rows(), make_moment(1, 24))
        (gradient,) = torch.autograd.grad(loss.total.sum(), [weights.extra["slow_threshold"]])
        near.append(gradient != 0)
    assert torch.equal(*near)
    assert int(near[0].sum()) > 10


def test_dead_latents_are_drawn_to_their_threshold_with_tanh(
    make_weights: Any, make_moment: Any
) -> None:
    architecture = JumpReLU(penalty="tanh", strength=(0.0,))
    weights = learnt(make_weights(group=1), architecture, rows())
    with torch.no_grad():
        weights.extra["slow_threshold"].fill_(1e2)
    dead = torch.zeros(1, 24, dtype=torch.bool)
    dead[0, 3] = True
    architecture.loss(weights, rows(), rows(), make_moment(dead)).total.sum().backward()
    moved = weights.b_enc.grad[0].nonzero().flatten().tolist()
    assert moved == [3]
    assert weights.b_enc.grad[0, 3] < 0


def test_exported_jumprelu_codes_are_those_of_the_training(
    make_weights: Any, make_moment: Any
) -> None:
    architecture = JumpReLU(l0=(3.0,))
    weights = learnt(make_weights(group=1), architecture, rows())
    sae = architecture.export(weights, 0, make_moment(1, 24))
    codes = sae.encode(rows()[0])
    pre = preactivations(weights, rows(), True)[0]
    wanted = pre * (pre > thresholds(weights)[0])
    torch.testing.assert_close(codes, wanted, rtol=1e-5, atol=1e-5)
    loss = architecture.loss(weights, rows(), rows(), make_moment(1, 24))
    error = (rows()[0] - sae(rows()[0])).square().sum(-1).mean()
    assert error.item() == pytest.approx(loss.error.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("architecture", "half"),
    [(ReLU(), "relu"), (Gated(), "gated"), (JumpReLU(l0=(6.0,), bandwidth=0.5), "jumprelu")],
    ids=["relu", "gated", "jumprelu"],
)
def test_products_of_16_bits_give_nearly_the_same(
    architecture: Any, half: str, make_weights: Any, make_moment: Any
) -> None:
    weights = learnt(make_weights(group=1), architecture, rows(400))
    full = architecture.loss(weights, rows(400), rows(400), make_moment(1, 24))
    with torch.autocast("cpu", torch.bfloat16):
        short = architecture.loss(weights, rows(400), rows(400), make_moment(1, 24))
    assert short.total.dtype == torch.float32
    assert short.total.item() == pytest.approx(full.total.item(), rel=0.02)
    assert short.l0.item() == pytest.approx(full.l0.item(), rel=0.02)
