"""Silhouette, agreement, neighbour purity and collapse: against scikit-learn, and planted answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    silhouette_samples,
)
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from layerscope.analyses.measures import collapse as collapse_module
from layerscope.analyses.measures.agreement import (
    adjusted_rand,
    contingency,
    normalised_information,
)
from layerscope.analyses.measures.collapse import collapse
from layerscope.analyses.measures.distances import distances
from layerscope.analyses.measures.gdv import class_sums
from layerscope.analyses.measures.purity import nearest, purity
from layerscope.analyses.measures.silhouette import silhouettes


def clouds(rows: int = 120, width: int = 6, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    codes = torch.arange(rows) % classes
    centres = 2 * torch.randn(classes, width, generator=generator)
    x = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    return x + centres[codes], codes


def shuffles(codes: Tensor, draws: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.stack(
        [codes[torch.randperm(len(codes), generator=generator)] for _ in range(draws)]
    )


def test_silhouettes_are_those_of_scikit_learn() -> None:
    x, codes = clouds()
    codes[0] = 4  # alone in its class
    draws = shuffles(codes)
    d = distances(x)
    found = silhouettes(next(class_sums(d, draws)), draws)
    for line, labels in zip(found, draws, strict=True):
        expected = silhouette_samples(x.numpy(), labels.numpy())
        np.testing.assert_allclose(line.numpy(), expected, atol=1e-9)


def test_silhouettes_of_points_are_one_and_of_one_point_zero() -> None:
    codes = torch.arange(12) % 3
    corners = distances(torch.eye(3)[codes])
    assert (silhouettes(next(class_sums(corners, codes[None])), codes[None]) == 1).all()
    same = torch.zeros(12, 12, dtype=torch.float64)
    assert (silhouettes(next(class_sums(same, codes[None])), codes[None]) == 0).all()


def test_agreement_is_that_of_scikit_learn() -> None:
    _, codes = clouds()
    other = (torch.arange(120) // 30 + (torch.arange(120) % 7 == 0)) % 5
    draws = torch.cat([codes[None], shuffles(codes), other[None]])
    table = contingency(draws, other)
    for line, a in enumerate(draws):
        assert adjusted_rand(table)[line].item() == pytest.approx(
            adjusted_rand_score(a, other), abs=1e-12
        )
        assert normalised_information(table)[line].item() == pytest.approx(
            normalized_mutual_info_score(a, other), abs=1e-12
        )
    assert adjusted_rand(table)[-1] == 1
    assert normalised_information(table)[-1].item() == pytest.approx(1)


def test_weights_are_copies_of_rows() -> None:
    _, codes = clouds()
    other = torch.arange(120) // 30
    weights = torch.randint(0, 4, (2, 120), generator=torch.Generator().manual_seed(0))
    table = contingency(codes[None], other, weights)
    for line, weight in enumerate(weights):
        rows = torch.arange(120).repeat_interleave(weight)
        assert adjusted_rand(table)[line].item() == pytest.approx(
            adjusted_rand_score(codes[rows], other[rows]), abs=1e-12
        )


def test_one_part_on_both_sides_agrees() -> None:
    table = torch.tensor([[[7.0]]], dtype=torch.float64)
    assert adjusted_rand(table).item() == 1
    assert normalised_information(table).item() == 1


def test_neighbours_are_those_of_scikit_learn_and_never_the_row_itself() -> None:
    x, codes = clouds()
    index = nearest(distances(x), 5)
    expected = NearestNeighbors(n_neighbors=5).fit(x.numpy()).kneighbors(return_distance=False)
    np.testing.assert_array_equal(index.sort(1).values.numpy(), np.sort(expected, 1))
    doubled = torch.cat([x, x])
    index = nearest(distances(doubled), 1)[:, 0]
    assert (index == (torch.arange(240) + 120) % 240).all()  # the copy, not the row
    assert (purity(index[:, None], torch.cat([codes, codes])[None]) == 1).all()


def test_purity_is_the_share_of_equal_neighbours() -> None:
    index = torch.tensor([[1, 2], [0, 2], [3, 0], [2, 1]])
    codes = torch.tensor([[0, 0, 1, 1], [0, 0, 0, 0]])
    expected = torch.tensor([[0.5, 0.5, 0.5, 0.5], [1, 1, 1, 1]], dtype=torch.float64)
    torch.testing.assert_close(purity(index, codes), expected)
    with pytest.raises(ValueError, match="4 neighbours need more than 4 rows, there are 4"):
        nearest(torch.zeros(4, 4), 4)


def plain_collapse(x: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    classes = np.unique(codes)
    means = np.stack([x[codes == c].mean(0) for c in classes])
    within = np.mean([np.cov(x[codes == c].T, bias=True) for c in classes], axis=0)
    apart = means - means.mean(0)
    between = apart.T @ apart / len(classes)
    nc1 = np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / len(classes)
    return float(np.trace(between) / np.trace(within)), float(nc1)


def test_collapse_is_what_whole_matrices_give(monkeypatch: pytest.MonkeyPatch) -> None:
    x, codes = clouds()
    draws = torch.cat([codes[None], shuffles(codes)])
    found = collapse(x, draws)
    for line, labels in enumerate(draws):
        fisher, nc1 = plain_collapse(x.numpy(), labels.numpy())
        assert found.fisher[line].item() == pytest.approx(fisher, rel=1e-9)
        assert found.nc1[line].item() == pytest.approx(nc1, rel=1e-9)
    monkeypatch.setattr(collapse_module, "BLOCK", 3)
    torch.testing.assert_close(collapse(x, draws).nc1, found.nc1)


def test_collapse_of_weights_is_that_of_copies() -> None:
    x, codes = clouds()
    weights = torch.randint(0, 3, (2, 120), generator=torch.Generator().manual_seed(0))
    weights[1, codes == 2] = 0  # a draw without one of the classes
    found = collapse(x, codes[None], weights)
    for line, weight in enumerate(weights):
        rows = torch.arange(120).repeat_interleave(weight)
        fisher, nc1 = plain_collapse(x[rows].numpy(), codes[rows].numpy())
        assert found.fisher[line].item() == pytest.approx(fisher, rel=1e-9)
        assert found.nc1[line].item() == pytest.approx(nc1, rel=1e-9)


def test_points_have_collapsed_and_one_cloud_has_not() -> None:
    codes = torch.arange(30) % 3
    found = collapse(torch.eye(3)[codes], codes[None])
    assert found.nc1.item() == pytest.approx(0, abs=1e-12)
    assert found.fisher.item() > 1e12
    generator = torch.Generator().manual_seed(0)
    noise = collapse(torch.randn(3000, 10, generator=generator), torch.arange(3000)[None] % 3)
    assert noise.fisher.item() < 0.01
    assert noise.nc1.item() > 100


def test_collapse_is_the_same_in_any_feature_order_and_in_float32() -> None:
    x, codes = clouds()
    found = collapse(x, codes[None])
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    for same in (x[:, order], x.float(), x + 100, 3 * x):
        other = collapse(same, codes[None])
        assert other.fisher.item() == pytest.approx(found.fisher.item(), rel=1e-3)
        assert other.nc1.item() == pytest.approx(found.nc1.item(), rel=1e-3)
