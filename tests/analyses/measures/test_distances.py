"""Distances and neighbours in blocks, against scipy and scikit-learn."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from layerscope.analyses.measures import distances as module
from layerscope.analyses.measures.distances import distances, neighbours, pairwise_sq


def rows(n: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def test_distances_are_scipys() -> None:
    x, z = rows(70, 9), rows(50, 9, seed=1)
    torch.testing.assert_close(
        distances(x, z).numpy(), cdist(x.double(), z.double()), rtol=1e-12, atol=0.0
    )
    torch.testing.assert_close(
        distances(x).numpy(), cdist(x.double(), x.double()), rtol=1e-12, atol=1e-12
    )


def test_what_lies_close_far_from_the_origin_keeps_its_digits() -> None:
    """|a|^2 + |b|^2 - 2ab alone would leave a distance of 1e-6 among norms of 1e4 with none."""
    x = rows(40, 8).double() * 1e-6
    x[:20] += 1e4
    exact = cdist(x, x)
    found = distances(x).numpy()
    torch.testing.assert_close(found[:20, :20], exact[:20, :20], rtol=1e-9, atol=0.0)


def test_duplicates_are_at_zero_and_are_neighbours() -> None:
    x = rows(30, 300) + 50
    x[11] = x[4]
    assert pairwise_sq(x)[4, 11] == 0
    found = neighbours(x, 1)
    assert found.distance[4, 0] == 0
    assert found.index[4, 0] == 11
    assert found.index[11, 0] == 4


def test_neighbours_are_scikit_learns_in_blocks_of_any_size() -> None:
    x = rows(200, 6)
    near, which = NearestNeighbors(n_neighbors=4).fit(x).kneighbors()
    for block in (7, 64, 200):
        found = neighbours(x, 4, block=block)
        torch.testing.assert_close(
            found.distance.numpy(), near, rtol=1e-6, atol=0.0, check_dtype=False
        )
        assert (found.index.numpy() == which).all()


def test_distances_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    x = rows(150, 5)
    whole = distances(x)
    monkeypatch.setattr(module, "BLOCK", 16)
    torch.testing.assert_close(distances(x), whole, rtol=1e-12, atol=1e-12)


def test_distances_are_symmetric_with_a_zero_diagonal() -> None:
    found = distances(rows(60, 5))
    assert (found == found.T).all()
    assert (found.diagonal() == 0).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_cuda_agrees() -> None:
    x = rows(300, 20)
    torch.testing.assert_close(distances(x.cuda()).cpu(), distances(x), rtol=1e-9, atol=1e-9)


def test_too_few_rows_for_the_neighbours() -> None:
    with pytest.raises(ValueError, match="3 neighbours need more than 3 rows, there are 3"):
        neighbours(rows(3, 2), 3)
