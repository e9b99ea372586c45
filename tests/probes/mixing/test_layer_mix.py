"""The mix of layers: planted layers, a plain optimiser that does no better, and what changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from layerscope.planted.mixes import labelled_layer
from layerscope.probes.mixing import layer_mix
from layerscope.probes.mixing.layer_mix import Mix, fit_mix


@pytest.mark.parametrize("where", [0, 2, 4])
def test_the_layer_that_has_the_label_gets_all_the_weight(where) -> None:
    stack, y = labelled_layer(1000, 5, 8, where=where)
    mix = fit_mix(stack, y, classes=2, l2=10.0)
    assert mix.weights[where] > 0.999
    assert mix.weights.sum().item() == pytest.approx(1, abs=1e-6)
    hits = (mix.scores(stack).argmax(1) == y).float().mean().item()
    assert hits == pytest.approx(0.977, abs=0.012)  # Phi(2)


def test_numbers_are_mixed_as_classes_are() -> None:
    stack, _ = labelled_layer(1000, 4, 8, where=1)
    mix = fit_mix(stack, stack[1, :, 3] * 5 + 2, classes=0, l2=1.0)
    assert mix.weights[1] > 0.98
    assert np.corrcoef(mix.scores(stack)[:, 0], stack[1, :, 3])[0, 1] > 0.99


def shared() -> tuple[torch.Tensor, torch.Tensor]:
    """A label that three layers hold with noise of their own, so that weights are spread."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(3, (600,), generator=generator)
    stack = torch.randn(4, 600, 6, generator=generator)
    for layer, gap in enumerate((0.0, 1.0, 2.0, 1.5)):
        stack[layer, torch.arange(600), y] += gap
    return stack, y


def objective(mix: Mix, stack: torch.Tensor, y: torch.Tensor, l2: float) -> float:
    missed = cross_entropy(mix.scores(stack), y, reduction="sum")
    return ((missed + l2 / 2 * mix.head[:, :-1].square().sum()) / len(y)).item()


def test_a_long_run_of_adam_ends_at_the_same_weights_and_no_lower() -> None:
    stack, y = shared()
    mix = fit_mix(stack, y, classes=3, l2=5.0)
    rows = layer_mix._standard(stack, mix.mean, mix.scale)
    logits = torch.zeros(4, requires_grad=True)
    head = torch.zeros(3, 7, requires_grad=True)
    optimiser = torch.optim.Adam([logits, head], lr=0.03)
    for _ in range(2500):
        optimiser.zero_grad()
        mixed = torch.einsum("l,lnd->nd", logits.softmax(0), rows)
        scores = mixed @ head[:, :-1].T + head[:, -1]
        loss = cross_entropy(scores, y, reduction="sum") + 2.5 * head[:, :-1].square().sum()
        (loss / len(y)).backward()
        optimiser.step()
    assert objective(mix, stack, y, 5.0) <= loss.item() / len(y) + 1e-5
    torch.testing.assert_close(mix.weights, logits.detach().softmax(0), atol=0.01, rtol=0)
    assert (mix.weights[1:] > 0.05).all()


def test_sizes_of_layers_and_order_of_features_do_not_matter() -> None:
    stack, y = shared()
    plain = fit_mix(stack, y, classes=3, l2=5.0)
    sized = fit_mix(
        stack * torch.tensor([1.0, 50, 0.02, 3])[:, None, None] + 7, y, classes=3, l2=5.0
    )
    mixed = fit_mix(stack[..., [5, 2, 0, 1, 4, 3]], y, classes=3, l2=5.0)
    torch.testing.assert_close(sized.weights, plain.weights, atol=2e-3, rtol=0)
    torch.testing.assert_close(mixed.weights, plain.weights, atol=2e-3, rtol=0)


def test_constant_features_do_no_harm_and_nothing_is_random() -> None:
    stack, y = shared()
    stack[:, :, 4] = 3.0
    state = torch.random.get_rng_state()
    one, two = (fit_mix(stack, y, classes=3, l2=5.0) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one.head, two.head)
    assert one.head.isfinite().all()
    assert (one.scale[:, 4] == 1).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_the_weights_are_the_same() -> None:
    stack, y = shared()
    here = fit_mix(stack, y, classes=3, l2=5.0)
    there = fit_mix(stack.cuda(), y.cuda(), classes=3, l2=5.0)
    torch.testing.assert_close(there.weights.cpu(), here.weights, atol=5e-3, rtol=0)


def test_the_unit_of_a_number_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    stack, _ = shared()
    y = (stack[2, :, 0] + 0.5 * stack[1, :, 3]).double() + torch.randn(600, generator=generator)
    one = fit_mix(stack, y, classes=0, l2=5.0)
    assert one.weights[2] > 0.6
    for unit, origin in ((1e-4, 0.0), (1e5, -3e6)):
        other = fit_mix(stack, unit * y + origin, classes=0, l2=5.0)
        torch.testing.assert_close(other.weights, one.weights, atol=1e-4, rtol=0)
        scores = (other.scores(stack).double() - origin) / unit
        torch.testing.assert_close(scores, one.scores(stack).double(), atol=1e-3, rtol=0)


def test_the_mix_of_a_number_is_at_its_minimum() -> None:
    """Beside the mix that was found, ridge regression by scikit-learn gives the same head."""
    from sklearn.linear_model import Ridge

    stack, _ = shared()
    y = 100 + 3e-3 * (stack[2, :, 0] + stack[1, :, 3]).double()
    mix = fit_mix(stack, y, classes=0, l2=5.0)
    mixed = torch.einsum(
        "l,lnd->nd", mix.weights, layer_mix._standard(stack, mix.mean, mix.scale)
    ).double()
    ridge = Ridge(alpha=5.0).fit(mixed, y)
    np.testing.assert_allclose(mix.head[0, :-1], ridge.coef_, atol=1e-5)
    assert mix.head[0, -1].item() == pytest.approx(ridge.intercept_, abs=1e-5)
