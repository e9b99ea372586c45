"""Neighbours by cosine: those of the whole matrix, without making it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.looking.nearest import nearest


@pytest.mark.parametrize("block", [1, 7, 64])
def test_it_is_the_sorted_row_of_the_whole_matrix(block: int) -> None:
    rows = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    index, cosine = nearest(rows, 4, block=block)
    x = rows.double().numpy()
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    whole = x @ x.T
    np.fill_diagonal(whole, -2)
    expected = np.argsort(-whole, axis=1, kind="stable")[:, :4]
    assert index.tolist() == expected.tolist()
    np.testing.assert_allclose(cosine, np.take_along_axis(whole, expected, 1), rtol=1e-5, atol=1e-6)


def test_lengths_do_not_matter_and_opposites_come_last() -> None:
    rows = torch.tensor([[1.0, 0], [5, 0], [-2, 0], [0, 3]])
    index, cosine = nearest(rows, 3)
    assert index[0].tolist() == [1, 3, 2]
    assert cosine[0].tolist() == [1, 0, -1]


def test_of_equals_the_lower_number_comes_first() -> None:
    index, cosine = nearest(torch.eye(6), 5)
    assert index.tolist() == [[j for j in range(6) if j != i] for i in range(6)]
    assert cosine.abs().max() == 0


def test_a_row_of_zeros_and_a_small_dictionary() -> None:
    index, cosine = nearest(torch.tensor([[0.0, 0], [1, 0]]), 5)
    assert index.tolist() == [[1], [0]]
    assert cosine.tolist() == [[0], [0]]
    assert nearest(torch.ones(1, 3), 5)[0].shape == (1, 0)
