"""Rows laid out for cross-validation."""

from __future__ import annotations

import pytest
import torch

from layerscope.probes.solving.design import Design


@pytest.fixture
def x() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 5 + torch.randn(600, 12, generator=generator) * torch.arange(1, 13)


def test_rows_are_standardised_and_end_in_one(x) -> None:
    design = Design.of(x, (0, 200, 400, 600))
    z = design.x[:, :-1].double()
    torch.testing.assert_close(z.mean(0), torch.zeros(12).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(12).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(design.x[:, :-1] * design.scale + design.mean, x)
    assert (design.x[:, -1] == 1).all()
    assert (design.width, list(design.folds), design.rows((0, 2))) == (12, [0, 1, 2], 200)


def test_the_callers_rows_are_not_touched(x) -> None:
    before = x.clone()
    Design.of(x, (0, 300, 600))
    assert torch.equal(x, before)


def test_moments_are_sums_over_the_other_folds(x) -> None:
    design = Design.of(x, (0, 200, 400, 600))
    rows = design.x[200:400].double()
    torch.testing.assert_close(design.moments((0, 2)), rows.T @ rows)


def test_training_rows_are_those_of_the_other_folds(x) -> None:
    design = Design.of(x, (0, 100, 400, 600))
    assert design.training((1,)).tolist() == [*range(100), *range(400, 600)]
    assert design.training().tolist() == list(range(600))


def test_spread_is_that_of_the_training_rows(x) -> None:
    design = Design.of(x, (0, 200, 400, 600))
    spread = design.spread((1,))
    train = torch.cat([design.x[:200, :-1], design.x[400:, :-1]]).double()
    assert spread.rows == 400
    torch.testing.assert_close(spread.mean, train.mean(0))
    torch.testing.assert_close(spread.scale, train.std(0, correction=0))


def test_thinned_rows_are_rows_of_every_fold_in_the_same_coordinates(x) -> None:
    design = Design.of(x, (0, 100, 101, 600))
    thin, index = design.thinned(60)
    torch.testing.assert_close(thin.x, design.x[index])
    assert [thin.rows((1, 2)), thin.rows((0, 2)), thin.rows((0, 1))] == [10, 1, 50]
