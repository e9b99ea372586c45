"""The order within a step: project, clip, Adam, renormalise."""

import pytest
import torch

from layerscope.analyses.sae.architectures.architecture import Weights
from layerscope.analyses.sae.architectures.relu import ReLUApril
from layerscope.analyses.sae.architectures.topk import TopK
from layerscope.analyses.sae.fitting import optimiser
from layerscope.analyses.sae.fitting.dead import Silence
from layerscope.analyses.sae.fitting.optimiser import Optimiser
from layerscope.analyses.sae.fitting.schedule import Schedule, default_rate


def weights(group: int = 2, seed: int = 0) -> Weights:
    generators = [torch.Generator().manual_seed(seed + member) for member in range(group)]
    made = TopK(k=(2,)).initial(12, 5, 5, generators)
    for tensor in made.named().values():
        tensor.requires_grad_()
    return made


def with_gradients(made: Weights, scale: float = 1.0) -> Weights:
    for number, tensor in enumerate(made.named().values()):
        generator = torch.Generator().manual_seed(number)
        tensor.grad = scale * torch.randn(tensor.shape, generator=generator)
    return made


def test_decoder_rows_keep_norm_one() -> None:
    made = weights()
    steps = Optimiser(made, TopK(k=(2,)), (0.1, 0.1), clip=1.0)
    for _ in range(5):
        with_gradients(made)
        steps.step(1.0)
        assert float((made.decoder.detach().norm(dim=-1) - 1).abs().max()) < 1e-6


def test_the_projected_gradient_is_orthogonal_to_its_row() -> None:
    made = weights()
    decoder = made.decoder.detach() * 3  # rows that are not of norm 1
    gradient = torch.randn(decoder.shape, generator=torch.Generator().manual_seed(1))
    expected = gradient - (gradient * decoder).sum(-1, keepdim=True) * decoder / 9
    optimiser._remove_radial(gradient, decoder)
    assert float((gradient * decoder).sum(-1).abs().max()) < 1e-5
    torch.testing.assert_close(gradient, expected)


def test_a_radial_gradient_moves_nothing() -> None:
    made = weights()
    before = made.decoder.detach().clone()
    steps = Optimiser(made, TopK(k=(2,)), (0.1, 0.1), clip=1.0)
    for tensor in made.named().values():
        tensor.grad = torch.zeros_like(tensor)
    made.decoder.grad = 7 * before
    steps.step(1.0)
    # Adam divides by the root of what rounding left over, so it is not exactly nothing.
    along = (made.decoder.detach() * before).sum(-1)
    assert float(along.min()) > 0.9


def test_without_a_constraint_norms_are_free() -> None:
    made = with_gradients(weights())
    Optimiser(made, ReLUApril(), (0.1, 0.1), clip=1.0).step(1.0)
    assert float((made.decoder.detach().norm(dim=-1) - 1).abs().max()) > 1e-2


def test_it_is_torchs_adam_on_clipped_gradients() -> None:
    made, twin = weights(1), weights(1)
    steps = Optimiser(made, ReLUApril(), (0.01,), clip=1.0)
    parameters = list(twin.named().values())
    theirs = torch.optim.Adam(parameters, lr=0.01)
    for _ in range(4):
        with_gradients(made), with_gradients(twin)
        steps.step(0.5)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        theirs.param_groups[0]["lr"] = 0.005
        theirs.step()
    for name, tensor in made.named().items():
        torch.testing.assert_close(tensor, twin.named()[name], rtol=1e-5, atol=1e-7)


def test_small_gradients_are_not_scaled_up() -> None:
    made = with_gradients(weights(), 1e-4)
    kept = made.encoder.grad.clone()
    Optimiser(made, ReLUApril(), (0.1, 0.1), clip=1.0)._clip_each([made.encoder.grad])
    torch.testing.assert_close(made.encoder.grad, kept)


def test_each_sae_is_clipped_by_its_own_norm() -> None:
    made = weights()
    steps = Optimiser(made, ReLUApril(), (0.1, 0.1), clip=1.0)
    gradients = [torch.stack([torch.full((3, 4), 10.0), torch.full((3, 4), 1e-3)])]
    steps._clip_each(gradients)
    norms = gradients[0].flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([1.0, 1e-3 * 12**0.5]))


def test_a_latent_is_dead_after_exactly_the_window() -> None:
    silence = Silence.none(1, 2, 100, torch.device("cpu"))
    active = torch.tensor([[True, False]])
    for seen in range(10, 110, 10):
        silence.saw(active, 10)
        assert silence.dead.tolist() == [[False, seen >= 100]]
    silence.saw(torch.tensor([[False, True]]), 10)
    assert silence.rows.tolist() == [[10, 0]]
    assert not silence.dead.any()


def test_the_rate_warms_up_stays_and_falls_to_zero() -> None:
    schedule = Schedule(1000)
    rates = [schedule.rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 50)
    assert rates[49] == 1.0
    assert rates[799] == 1.0
    assert rates[900] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(1 / 200)
    assert schedule.penalty(24) == pytest.approx(0.5)
    assert schedule.penalty(999) == 1.0


def test_a_warm_up_is_never_longer_than_a_thousand_steps() -> None:
    assert Schedule(10**6).warm_up == 1000
    assert Schedule(3).warm_up == 1


@pytest.mark.parametrize(("latents", "rate"), [(2**14, 2e-4), (2**12, 4e-4), (2**16, 1e-4)])
def test_the_default_rate_falls_with_the_root_of_the_width(latents, rate) -> None:
    assert default_rate(latents) == pytest.approx(rate)
