"""Alignment, centring and dimension of kernels: known answers and a second computation."""

from __future__ import annotations

import math

import pytest
import torch

from layerscope.analyses.measures.kernels import (
    alignment,
    centred,
    gram,
    participation_ratio,
    shuffled,
)


def rows(n: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=generator, dtype=torch.float64)


def test_a_kernel_is_aligned_with_itself_and_with_its_multiples() -> None:
    kernel = gram(rows(12, 5))
    assert float(alignment(kernel, kernel)) == pytest.approx(1, abs=1e-12)
    assert float(alignment(kernel, 3 * kernel)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (3.0, 4.0), (0.2, 1.0)])
def test_a_sum_of_orthogonal_kernels_is_aligned_by_its_share(alpha: float, beta: float) -> None:
    basis = torch.linalg.qr(rows(9, 9) - rows(9, 9).mean(0))[0][:, :4]
    basis = basis - basis.mean(0)  # columns stay orthogonal: the mean of centred columns is 0
    one, other = gram(basis[:, :2]), gram(basis[:, 2:])
    one, other = (centred(k) / centred(k).norm() for k in (one, other))
    assert float((one * other).sum()) == pytest.approx(0, abs=1e-12)
    expected = alpha / math.hypot(alpha, beta)
    assert float(alignment(alpha * one + beta * other, one)) == pytest.approx(expected, abs=1e-12)


def test_centring_takes_the_mean_of_the_rows_away() -> None:
    x = rows(10, 6) + 3
    assert torch.allclose(centred(gram(x)), gram(x - x.mean(0)), atol=1e-10)


def test_rows_of_a_block_are_centred_each_by_itself() -> None:
    x = rows(8, 3, 1).view(8, 1, 3) + torch.tensor([[[5.0], [-2.0]]], dtype=torch.float64)
    flat = x.expand(8, 2, 3).reshape(16, 3)
    middle = (x.expand(8, 2, 3) - x.expand(8, 2, 3).mean(0)).reshape(16, 3)
    assert torch.allclose(centred(gram(flat), 2), gram(middle), atol=1e-10)


def test_centred_alignment_is_linear_cka() -> None:
    x, y = rows(20, 4, 2), rows(20, 7, 3)
    a, b = x - x.mean(0), y - y.mean(0)
    cka = (a.T @ b).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm())
    assert float(alignment(centred(gram(x)), centred(gram(y)))) == pytest.approx(float(cka))


def test_the_dimension_counts_equal_directions() -> None:
    assert float(participation_ratio(torch.eye(5))) == pytest.approx(5)
    assert float(participation_ratio(torch.diag(torch.tensor([1.0, 0, 0])))) == pytest.approx(1)


def test_shuffled_rows_move_blocks_whole() -> None:
    kernel = gram(rows(6, 3))
    for mixed in shuffled(kernel, 5, block=2):
        diagonal = mixed.diagonal().view(3, 2)
        assert sorted(map(tuple, diagonal.tolist())) == sorted(
            map(tuple, kernel.diagonal().view(3, 2).tolist())
        )
    assert not all(torch.equal(mixed, kernel) for mixed in shuffled(kernel, 5, block=2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_kernels_on_a_gpu_agree_with_the_cpu() -> None:
    x, y = rows(200, 40), rows(200, 30, 1)
    cpu = alignment(centred(gram(x)), centred(gram(y)))
    gpu = alignment(centred(gram(x.float().cuda())), centred(gram(y.float().cuda())))
    assert float(gpu) == pytest.approx(float(cpu), rel=1e-3)
