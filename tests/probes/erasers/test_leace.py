"""LEACE: no covariance is left, rank K - 1, and no erasing affine map changes the rows less."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from layerscope.planted.gaussian_classes import gaussian_classes
from layerscope.probes.erasers import LeaceFit
from layerscope.probes.erasers.directions import mean_difference, removed_variance


def one_hot(y: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(y, classes).double()


def cross_covariance(x: Tensor, z: Tensor) -> Tensor:
    return (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)


def by_formula(x: Tensor, z: Tensor) -> Tensor:
    """The matrix of the eraser, written down from the paper with roots and pseudo-inverses."""
    covariance = torch.cov(x.T, correction=0)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors @ values.clamp_min(0).sqrt().diag() @ vectors.T
    whitening = torch.linalg.pinv(root)
    whitened = whitening @ cross_covariance(x, z)
    onto = whitened @ torch.linalg.pinv(whitened, rtol=1e-9)
    return torch.eye(x.shape[1], dtype=x.dtype) - root @ onto @ whitening


def least_norm(x: Tensor, z: Tensor) -> Tensor:
    """The same by brute force: min tr((A - I) S (A - I)^T) with A C = 0, row by row of A.

    For each row a of A with unit vector e: a - e = -C' w in the metric of S, where S (a - e) = C m, so
    a = e + S^-1 C m and C^T a = 0 fixes m.
    """
    s, c = torch.cov(x.T, correction=0), cross_covariance(x, z)[:, 1:]
    inverse = torch.linalg.inv(s)
    multipliers = torch.linalg.solve(c.T @ inverse @ c, -c.T)
    return torch.eye(len(s), dtype=x.dtype) + (inverse @ c @ multipliers).T


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("octaves", [0.0, 8.0])
def test_nothing_is_left_and_the_rank_is_classes_minus_one(classes: int, octaves: float) -> None:
    planted = gaussian_classes(classes, 2000, 30, gap=6, octaves=octaves)
    z = one_hot(planted.y, classes)
    eraser = LeaceFit(30, range(classes)).update(planted.x, planted.y).result()
    assert eraser.rank == classes - 1
    assert cross_covariance(planted.x, z).abs().max() > 0.1
    assert cross_covariance(eraser(planted.x), z).abs().max() < 1e-10
    torch.testing.assert_close(
        eraser.read @ eraser.remove, torch.eye(eraser.rank, dtype=torch.float64)
    )


def test_a_logistic_probe_on_erased_rows_is_left_with_the_majority() -> None:
    from sklearn.linear_model import LogisticRegression

    planted = gaussian_classes(4, 3000, 30, gap=9)
    x, y = planted.x, planted.y.numpy()
    eraser = LeaceFit(30, range(4)).update(x, y).result()
    model = LogisticRegression(C=1e4, max_iter=2000)
    majority = np.bincount(y).max() / len(y)
    assert model.fit(x, y).score(x, y) == pytest.approx(1.0, abs=2e-3)
    assert model.fit(eraser(x), y).score(eraser(x), y) == pytest.approx(majority, abs=1e-9)


def test_it_is_the_formula_of_the_paper_and_the_least_norm_solution() -> None:
    planted = gaussian_classes(3, 1500, 12, gap=2, octaves=4)
    z = one_hot(planted.y, 3)
    eraser = LeaceFit(12, range(3)).update(planted.x, planted.y).result()
    found = torch.eye(12, dtype=torch.float64) - eraser.remove @ eraser.read
    torch.testing.assert_close(found, by_formula(planted.x, z), atol=1e-9, rtol=0)
    torch.testing.assert_close(found, least_norm(planted.x, z), atol=1e-9, rtol=0)


def test_every_other_erasing_projection_changes_the_rows_more() -> None:
    planted = gaussian_classes(3, 2000, 10, gap=3, octaves=6)
    x, z = planted.x, one_hot(planted.y, 3)
    covariance = torch.cov(x.T, correction=0)
    eraser = LeaceFit(10, range(3)).update(x, planted.y).result()
    least = (eraser(x) - x).square().sum(1).mean().item()
    assert removed_variance(eraser, covariance) == pytest.approx(least, rel=1e-9)
    others = [mean_difference(x, planted.y.numpy())]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        # Any S makes r(x) = x - C (R C)^+ R (x - mean), R = C^T S: it erases, whatever S is.
        root = torch.randn(10, 10, generator=generator, dtype=torch.float64)
        c = cross_covariance(x, z)
        read = torch.linalg.svd(c, full_matrices=False)[0][:, :2].T @ (root @ root.T)
        remove = torch.linalg.svd(c, full_matrices=False)[0][:, :2]
        remove = remove @ torch.linalg.inv(read @ remove)
        made = eraser.__class__(remove=remove, read=read, center=x.mean(0), method="other")
        assert cross_covariance(made(x), z).abs().max() < 1e-9
        others.append(made)
    for other in others:
        assert (other(x) - x).square().sum(1).mean().item() > 1.01 * least


def test_parts_in_any_size_and_order_give_the_whole() -> None:
    planted = gaussian_classes(3, 1000, 8, gap=2)
    x, y = planted.x + 1000.0, planted.y
    whole = LeaceFit(8, range(3)).update(x, y).result()
    for size in (64, 999):
        fit = LeaceFit(8, range(3))
        for start in reversed(range(0, 1000, size)):
            fit.update(x[start : start + size], y[start : start + size])
        parts = fit.result()
        torch.testing.assert_close(parts(x), whole(x), atol=1e-9, rtol=0)


def test_numbers_are_erased_too() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 6, generator=generator, dtype=torch.float64) @ torch.randn(
        6, 6, generator=generator, dtype=torch.float64
    )
    z = torch.stack([x[:, 0] + 0.5 * x[:, 1], x[:, 2] ** 2], dim=1)
    eraser = LeaceFit(6, numbers=2).update(x, z).result()
    assert eraser.rank == 2
    assert cross_covariance(eraser(x), z).abs().max() < 1e-10
    one = LeaceFit(6).update(x, z[:, 0]).result()
    assert one.rank == 1


def test_a_permuted_feature_order_permutes_the_eraser() -> None:
    planted = gaussian_classes(3, 800, 9, gap=2, octaves=3)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    plain = LeaceFit(9, range(3)).update(planted.x, planted.y).result()
    turned = LeaceFit(9, range(3)).update(planted.x[:, order], planted.y).result()
    torch.testing.assert_close(
        turned(planted.x[:, order]), plain(planted.x)[:, order], atol=1e-9, rtol=0
    )


def test_float32_rows_give_the_same_eraser() -> None:
    planted = gaussian_classes(3, 800, 9, gap=2, octaves=3)
    wide = LeaceFit(9, range(3)).update(planted.x, planted.y).result()
    narrow = LeaceFit(9, range(3)).update(planted.x.float(), planted.y).result()
    torch.testing.assert_close(
        narrow(planted.x.float()).double(), wide(planted.x), rtol=1e-3, atol=1e-4
    )


def test_features_that_are_constant_doubled_or_more_than_rows_are_no_trouble() -> None:
    planted = gaussian_classes(2, 40, 30, gap=2)
    x = torch.cat([planted.x, planted.x[:, :20], torch.ones(40, 5)], dim=1)
    z = one_hot(planted.y, 2)
    eraser = LeaceFit(55, range(2)).update(x, planted.y).result()
    assert eraser.rank == 1
    assert cross_covariance(eraser(x), z).abs().max() < 1e-9
    assert torch.equal(eraser(x)[:, -5:].round(decimals=9), torch.ones(40, 5).double())


def test_a_label_that_has_nothing_to_do_with_the_rows_costs_no_direction() -> None:
    x = torch.tensor([[1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [-1.0, -2.0]]).double()
    z = torch.tensor([1.0, -1.0, -1.0, 1.0])
    eraser = LeaceFit(2).update(x, z).result()
    assert eraser.rank == 0
    assert torch.equal(eraser(x), x)


def test_what_it_refuses() -> None:
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match=r"classes \['c'\] are not among"):
        LeaceFit(3, "ab").update(x, list("abca"))
    with pytest.raises(ValueError, match="one label a row"):
        LeaceFit(3, "ab").update(x, list("ab"))
    with pytest.raises(ValueError, match="one value only"):
        LeaceFit(3, "ab").update(x, list("aaaa")).result()
    x[2, 1] = float("nan")
    with pytest.raises(ValueError, match="activations are NaN or infinite, the first at row 2"):
        LeaceFit(3, "ab").update(x, list("abab"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_it_is_the_same_within_float32() -> None:
    planted = gaussian_classes(3, 800, 9, gap=2)
    here = LeaceFit(9, range(3)).update(planted.x, planted.y).result()
    there = LeaceFit(9, range(3)).update(planted.x.float().cuda(), planted.y).result()
    found = there(planted.x.float().cuda())
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu().double(), here(planted.x), rtol=1e-3, atol=1e-4)
