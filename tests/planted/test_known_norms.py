"""Norms of rows and of their codes, each told beforehand."""

from __future__ import annotations

import pytest
import torch

from layerscope.planted.known_norms import notebook_example, unit_pair, varied_supports


def test_orthonormal_rows_have_the_norm_of_their_codes() -> None:
    found = varied_supports(500)
    torch.testing.assert_close(found.x, found.codes @ found.directions)
    torch.testing.assert_close(found.x.norm(dim=1), found.codes.norm(dim=1))
    assert ((found.codes > 0).sum(1) == found.kept).all()
    assert set(found.kept.tolist()) == set(range(1, 20))
    torch.testing.assert_close(found.x, varied_supports(500).x, rtol=0, atol=0)
    assert float((found.x - varied_supports(500, seed=1).x).abs().max()) > 0.1


def test_a_pair_misses_the_norm_by_its_cosine() -> None:
    for cosine in (-0.4, 0.0, 0.3, 0.9):
        for signs in ((1.0, 1.0), (1.0, -1.0)):
            found = unit_pair(cosine, signs=signs)
            torch.testing.assert_close(found.directions.norm(dim=1), torch.ones(2).double())
            off = found.x.square().sum() - found.codes.square().sum()
            sign = signs[0] * signs[1]
            assert float(off / found.codes.square().sum()) == pytest.approx(sign * cosine)


def test_the_notebook_example() -> None:
    found = notebook_example()
    assert found.x.norm(dim=1).tolist() == pytest.approx([54.41, 15.0, 67.80], abs=0.005)
    assert found.kept.tolist() == [2, 2, 2]


def test_kept_is_the_number_whose_norm_is_nearest() -> None:
    examples = [unit_pair(-0.9), unit_pair(0.5), varied_supports(50), notebook_example()]
    for found, allowed in zip(examples, (2, 2, 32, 2), strict=True):  # the notebook never keeps all
        sizes = found.codes * found.directions.norm(dim=1)
        for row, kept, target in zip(sizes, found.kept, found.x.norm(dim=1), strict=True):
            ordered = row.sort(descending=True).values
            misses = [float((ordered[:m].norm() - target).abs()) for m in range(1, allowed + 1)]
            nearest = 1 + min(range(allowed), key=lambda m: round(misses[m], 12))
            assert nearest == kept


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(ValueError, match="up to 32 of 32 orthonormal directions: choose 1 to 31"):
        varied_supports(10, most=32)
