"""Mutual nearest neighbours: against scikit-learn and drawn nulls."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from layerscope.analyses.measures import shared_neighbours
from layerscope.planted import clouds


def test_they_are_scikit_learn_s() -> None:
    x = clouds.gaussian(80, clouds.power_law(6), mean=0.5)
    y = clouds.blurred(x, 0.9, seed=1)
    near = [shared_neighbours.nearest(z, 5) for z in (x, y)]
    theirs = [
        NearestNeighbors(n_neighbors=6, metric="cosine", algorithm="brute")
        .fit(z.numpy())
        .kneighbors()[1][:, :5]
        for z in (x, y)
    ]
    expected = [len(set(a) & set(b)) / 5 for a, b in zip(*theirs, strict=True)]
    assert shared_neighbours.kept(*near).tolist() == pytest.approx(expected)


def test_rotation_and_scale_keep_all() -> None:
    x = clouds.gaussian(80, clouds.isotropic(6))
    near = [shared_neighbours.nearest(z, 10) for z in (x, 4 * x @ clouds.rotation(6))]
    assert float(shared_neighbours.kept(*near).mean()) == 1


def test_chance_is_that_of_rows_in_random_order() -> None:
    x, y = (clouds.gaussian(90, clouds.isotropic(3), seed=s) for s in (0, 1))
    a = shared_neighbours.nearest(x, 8)
    generator = torch.Generator().manual_seed(0)
    drawn = []
    for _ in range(1000):
        b = shared_neighbours.nearest(y[torch.randperm(90, generator=generator)], 8)
        drawn.append(float(shared_neighbours.kept(a, b).mean()))
    mean, deviation = shared_neighbours.chance(a, b)
    assert mean == pytest.approx(8 / 89)
    assert np.mean(drawn) == pytest.approx(mean, abs=4 * np.std(drawn) / 1000**0.5)
    assert np.std(drawn) == pytest.approx(deviation, rel=0.08)


def test_chance_is_exact_over_every_order_of_six_rows() -> None:
    a, b = (
        shared_neighbours.nearest(clouds.gaussian(6, clouds.isotropic(3), seed=s), 2)
        for s in (0, 1)
    )
    shares = []
    for order in itertools.permutations(range(6)):
        places = torch.tensor(order)
        moved = torch.empty_like(b)
        moved[places] = places[b]
        shares.append(float(shared_neighbours.kept(a, moved).mean()))
    assert shared_neighbours.chance(a, b) == pytest.approx((np.mean(shares), np.std(shares)))
