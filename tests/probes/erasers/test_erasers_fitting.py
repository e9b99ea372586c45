"""`fit_eraser` on a store, and the erasers that others are held against."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from layerscope.planted.gaussian_classes import gaussian_classes
from layerscope.probes.erasers import LeaceFit, fit_eraser
from layerscope.probes.erasers.directions import (
    _along,
    matched_directions,
    mean_difference,
    random_directions,
    removed_variance,
)


@pytest.fixture
def store(make_store: Any) -> Any:
    planted = gaussian_classes(3, 600, 12, gap=4, octaves=3)
    names = np.array(["a", "b", "c"])[planted.y.numpy()]
    return make_store(
        {"embed": planted.x, "blocks.0.resid_post": planted.x * 2},
        group=[f"g{i % 40}" for i in range(600)],
        kind=names,
        size=planted.x[:, 0].numpy() * 3.0,
    )


@pytest.mark.parametrize("method", ["leace", "inlp", "random", "mean_difference"])
def test_each_method_makes_an_eraser_of_the_label(store: Any, method: Any) -> None:
    made = fit_eraser(store, "embed", "kind", method=method)
    assert (made.method, made.site, made.label) == (method, "embed", "kind")
    assert made.about["store_key"] == store.key
    codes = store.rows["kind"].to_numpy()
    x = store["embed"][:].double()
    erased = made(x)
    means = torch.stack([erased[torch.from_numpy(codes == k)].mean(0) for k in "abc"])
    apart = float((means - means.mean(0)).norm())
    if method in ("leace", "mean_difference"):
        assert made.rank == 2
        assert apart < 1e-5  # the store is float32
    else:
        assert apart > 1e-3
    if method == "random":
        assert made.rank == 2


def test_a_number_is_erased(store: Any) -> None:
    made = fit_eraser(store, 0, "size")
    x, z = store[0][:].double(), torch.tensor(store.rows["size"].tolist(), dtype=torch.float64)
    found = (made(x) - made(x).mean(0)).T @ (z - z.mean()) / len(z)
    assert made.rank == 1
    assert found.abs().max() < 1e-5


def test_leace_of_a_store_is_leace_of_its_rows(store: Any) -> None:
    made = fit_eraser(store, "embed", "kind")
    x = store["embed"][:]
    by_hand = LeaceFit(12, "abc").update(x, store.rows["kind"].tolist()).result()
    torch.testing.assert_close(made(x), by_hand(x), atol=1e-5, rtol=0)


def test_what_is_refused(store: Any) -> None:
    with pytest.raises(ValueError, match="method is one of leace, inlp, random, mean_difference"):
        fit_eraser(store, "embed", "kind", method="lace")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs classes; a number has no class means"):
        fit_eraser(store, "embed", "size", method="mean_difference")
    with pytest.raises(LookupError, match="no label 'kin'"):
        fit_eraser(store, "embed", "kin")


def test_nan_is_refused_with_site_and_row(make_store: Any) -> None:
    x = torch.randn(60, 4)
    x[17, 2] = float("nan")
    store = make_store({"embed": x}, group=[str(i % 20) for i in range(60)], kind=["a", "b"] * 30)
    with pytest.raises(ValueError, match=r"embed: activations of 1 of 60 rows .* row 17"):
        fit_eraser(store, "embed", "kind")


def test_random_directions_are_orthonormal_and_follow_the_seed() -> None:
    center = torch.zeros(10, dtype=torch.float64)
    one, two = (random_directions(center, 4, seed=s) for s in (0, 1))
    identity = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(one.remove.T @ one.remove, identity)
    assert torch.equal(one.remove, random_directions(center, 4, seed=0).remove)
    assert (one.remove - two.remove).abs().max() > 0.1


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4, 0.7])
def test_matched_directions_carry_the_variance_asked_for(share: float) -> None:
    covariance = torch.diag(2.0 ** torch.arange(12, 0, -1, dtype=torch.float64))
    total = float(covariance.trace())
    center = torch.zeros(12, dtype=torch.float64)
    for seed in range(3):
        made = matched_directions(covariance, center, 3, share * total, seed=seed)
        assert made.rank == 3
        assert removed_variance(made, covariance) == pytest.approx(share * total, rel=1e-6)


def test_variance_that_no_directions_carry_gives_the_nearest() -> None:
    covariance = torch.diag(torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64))
    center = torch.zeros(4, dtype=torch.float64)
    most = matched_directions(covariance, center, 2, 99.0, seed=0)
    least = matched_directions(covariance, center, 2, 0.0, seed=0)
    assert removed_variance(most, covariance) == pytest.approx(12.0, rel=1e-6)
    assert removed_variance(least, covariance) == pytest.approx(3.0, rel=1e-6)


def test_power_nought_is_a_random_direction_and_the_span_is_that_of_the_weighted_draw() -> None:
    values = 2.0 ** torch.arange(6, dtype=torch.float64)
    drawn = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for power in (-1.5, 0.0, 2.0):
        found = _along(values, drawn, power)
        weighted = values[:, None] ** (power / 2) * drawn
        by_qr = torch.linalg.qr(weighted)[0]
        torch.testing.assert_close(found @ found.T, by_qr @ by_qr.T)


def test_class_means_projected_out_are_equal() -> None:
    planted = gaussian_classes(4, 800, 9, gap=3, octaves=4)
    made = mean_difference(planted.x, planted.y.numpy())
    erased = made(planted.x)
    means = torch.stack([erased[planted.y == k].mean(0) for k in range(4)])
    assert made.rank == 3
    assert (means - means[0]).abs().max() < 1e-10
