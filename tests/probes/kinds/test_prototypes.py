"""Prototypes: planted clusters, distances by hand, and rows that are really there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from layerscope.probes.fitting import fit, fit_readout
from layerscope.probes.kinds import Prototypes
from layerscope.probes.probe import probe

SIGMA = 0.05


@pytest.fixture
def clusters() -> tuple[Tensor, Tensor]:
    """Eight tight clusters in 20 features, the class of each its number."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(1600) % 8
    centres = 3 * torch.randn(8, 20, generator=generator)
    return centres[y] + SIGMA * torch.randn(1600, 20, generator=generator), y


def test_tight_clusters_are_found(clusters, scored) -> None:
    x, y = clusters
    line = scored(Prototypes(count=8), x, y, classes=8)
    assert line["value"] == 1
    assert line["purity"] == 1
    z = (x - x.mean(0)) / x.std(0, correction=0)
    variance = float(z.square().sum(1).mean())
    noise = float((SIGMA / x.std(0)).square().sum())  # width times sigma squared, standardised
    assert line["r2"] * variance == pytest.approx(noise, rel=0.03)
    # Each centre's nearest row is nearer than rows are on average, by the least of many.
    means = torch.stack([z[y == k].mean(0) for k in range(8)])
    least = torch.stack([(z[y == k] - means[k]).square().sum(1).min() for k in range(8)]).mean()
    assert line["r1"] * variance == pytest.approx(float(least), rel=0.15)
    assert line["r1"] < line["r2"]


def test_fewer_prototypes_than_clusters_cap_purity(clusters, scored) -> None:
    x, y = clusters
    line = scored(Prototypes(count=4), x, y, classes=8)
    assert line["purity"] == pytest.approx(4 / 8, abs=0.01)
    assert line["r2"] > 0.1


def test_one_prototype_is_the_mean(clusters, scored) -> None:
    x, y = clusters
    line = scored(Prototypes(count=1), x, y, classes=8)
    assert line["r2"] == pytest.approx(1, abs=0.02)
    assert line["purity"] == pytest.approx(1 / 8, abs=0.01)


def test_scales_and_order_of_features_do_not_matter(clusters, scored) -> None:
    x, y = clusters
    scales = torch.logspace(-2, 2, 20)
    a = scored(Prototypes(count=4), x, y, classes=8)
    b = scored(Prototypes(count=4), (x * scales).flip(1) + 9, y, classes=8)
    for name in ("r1", "r2", "purity"):
        assert a[name] == pytest.approx(b[name], rel=1e-3), name


def test_the_readout_stands_on_rows_of_the_store(clusters, make_store) -> None:
    x, y = clusters
    store = make_store(
        {"blocks.0.resid_post": x},
        group=np.arange(1600),
        y=[f"c{k}" if i % 10 else None for i, k in enumerate(y.tolist())],
    )
    readout = fit_readout(store, 0, "y", kind=Prototypes(count=8))
    chosen = x[list(readout.rows)]
    z = (chosen - readout.mean) / readout.scale
    torch.testing.assert_close(z, readout.prototypes, atol=1e-4, rtol=1e-4)
    assert readout.distances(chosen).diagonal().max() < 1e-3
    own = [readout.classes[k] for k in readout.own]
    assert own == [store.rows["y"][row] for row in readout.rows]
    assert sorted(own) == [f"c{k}" for k in range(8)]
    assert readout.predict(chosen) == own
    finding = probe(store, label="y", kind=Prototypes(count=8), progress=False)
    examples = list(map(int, finding.best["examples"].split()))
    assert len(examples) == 8
    assert store.rows["y"].iloc[examples].notna().all()
    assert finding.table.columns[-4:].tolist() == ["r1", "r2", "purity", "examples"]


def test_distances_by_hand(clusters) -> None:
    x, y = clusters
    readout = fit(x, y, kind=Prototypes(count=3))
    z = (x - readout.mean) / readout.scale
    expected = torch.cdist(z.double(), readout.prototypes.double()).square()
    torch.testing.assert_close(readout.distances(x).double(), expected, atol=1e-3, rtol=1e-4)


def test_counts_that_cannot_be(clusters, scored) -> None:
    x, y = clusters
    with pytest.raises(ValueError, match="count and restarts must be at least 1, got 0 and 10"):
        Prototypes(count=0)
    with pytest.raises(ValueError, match="100 prototypes from 32 training rows; ask for fewer"):
        scored(Prototypes(count=100), x[:40], y[:40], classes=8)
