"""Straight-through gradients: the values that follow from their definition."""

from __future__ import annotations

import pytest
import torch

from layerscope.analyses.sae.architectures.steps import count_above, jumprelu

PRE = [0.98, 1.01, 1.2, 0.5]


def leaves(to_float64: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Four rows of one latent, and its threshold."""
    dtype = torch.float64 if to_float64 else torch.float32
    pre = torch.tensor(PRE, dtype=dtype)[:, None].requires_grad_()
    threshold = torch.tensor([1.0], dtype=dtype, requires_grad=True)
    return pre, threshold


def test_the_step() -> None:
    pre, threshold = leaves()
    count = count_above(pre, threshold, 0.05)
    assert count.tolist() == [0, 1, 1, 0]
    count.sum().backward()
    # Two of the four lie within half a bandwidth, one of them below.
    assert threshold.grad.item() == pytest.approx(-40)
    assert pre.grad is None


def test_the_jump() -> None:
    pre, threshold = leaves()
    codes = jumprelu(pre, threshold, 0.05)
    assert codes.flatten().tolist() == [0, 1.01, 1.2, 0]
    codes.sum().backward()
    assert threshold.grad.item() == pytest.approx(-40)
    assert pre.grad.flatten().tolist() == [0, 1, 1, 0]


def test_a_value_just_below_the_threshold_is_felt() -> None:
    # Read off the codes instead of the pre-activations, it would be a zero far from the threshold.
    pre = torch.tensor([[0.98]])
    threshold = torch.tensor([1.0], requires_grad=True)
    count_above(pre, threshold, 0.05).sum().backward()
    assert threshold.grad.item() == pytest.approx(-20)


def test_with_to_input_the_latent_is_pushed_as_the_threshold_is() -> None:
    pre, threshold = leaves()
    count_above(pre, threshold, 0.05, to_input=True).sum().backward()
    assert pre.grad.flatten().tolist() == pytest.approx([20, 20, 0, 0])
    pre, threshold = leaves()
    jumprelu(pre, threshold, 0.05, to_input=True).sum().backward()
    assert pre.grad.flatten().tolist() == pytest.approx([20, 21, 1, 0])


def test_the_logarithm_of_a_threshold_would_have_its_gradient_times_the_threshold() -> None:
    logarithm = torch.tensor([0.0], dtype=torch.float64, requires_grad=True)
    for shift, factor in ((0.0, 1.0), (1.0, torch.e)):
        logarithm.grad = None
        pre = factor * torch.tensor(PRE, dtype=torch.float64)[:, None]
        threshold = (logarithm + shift).exp()
        count_above(pre, threshold, 0.05 * factor).sum().backward()
        assert logarithm.grad.item() == pytest.approx(-40 / factor * factor)


def test_upstream_gradients_and_bandwidths_of_each_sae() -> None:
    own = torch.Generator().manual_seed(0)
    pre = torch.randn(2, 50, 3, generator=own, dtype=torch.float64)
    threshold = torch.rand(2, 3, generator=own, dtype=torch.float64).requires_grad_()
    bandwidth = torch.tensor([0.3, 0.8], dtype=torch.float64)[:, None, None]
    upstream = torch.randn(2, 50, generator=own, dtype=torch.float64)
    (count_above(pre, threshold, bandwidth) * upstream).sum().backward()
    for sae in range(2):
        for latent in range(3):
            e = bandwidth[sae].item()
            near = [
                -upstream[sae, row].item() / e
                for row in range(50)
                if abs(pre[sae, row, latent] - threshold[sae, latent]).item() < e / 2
            ]
            assert len(near) > 2
            assert threshold.grad[sae, latent].item() == pytest.approx(sum(near))


def test_in_half_precision_thresholds_and_counts_stay_float32() -> None:
    pre = torch.full((1, 2, 300), 1.0, dtype=torch.bfloat16, requires_grad=True)
    threshold = torch.full((1, 300), 0.999, requires_grad=True)
    count = count_above(pre, threshold, 0.1)
    assert count.dtype == torch.float32
    # 300 and 1 step are beyond 8 bits.
    assert count.tolist() == [[300, 300]]
    (count.sum() + jumprelu(pre, threshold, 0.1).sum()).backward()
    assert threshold.grad.dtype == torch.float32
    assert pre.grad.dtype == torch.bfloat16
