"""Sums over rows against definitions written out plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.measuring.accumulator import Accumulator


def of(y, codes=None, rebuilt=None, *, groups=None, lengths=None, b_dec=None, size=None):
    codes = torch.zeros(len(y), 3) if codes is None else codes
    lengths = torch.ones(codes.shape[1]) if lengths is None else lengths
    b_dec = torch.zeros(y.shape[1]) if b_dec is None else b_dec
    count = 1 if groups is None else int(groups.max()) + 1
    found = Accumulator(y.double().mean(0), lengths, b_dec, count)
    for part in torch.arange(len(y)).split(size or len(y)):
        found.add(y[part], codes[part], rebuilt[part], None if groups is None else groups[part])
    return found


def only(found) -> dict[str, float]:
    return {name: float(value[0]) for name, value in found.values().items()}


def made(rows=600, d=7, latents=11, dtype=torch.float64):
    drawn = torch.Generator().manual_seed(0)
    y = 3 + torch.randn(rows, d, generator=drawn, dtype=dtype)
    codes = torch.randn(rows, latents, generator=drawn, dtype=dtype).relu()
    codes[:, 4] = 0
    return y, codes, y + 0.3 * torch.randn(rows, d, generator=drawn, dtype=dtype)


def test_one_reconstruction_has_five_answers() -> None:
    """x = 5 + N(0, 1) in 16 dimensions, reconstructed as x + 0.5."""
    x = 5 + torch.randn(100_000, 16, generator=torch.Generator().manual_seed(0))
    found = only(of(x, rebuilt=x + 0.5))
    assert found["explained_variance"] == pytest.approx(0.750, abs=2e-3)
    assert found["explained_variance_mean_of_ratios"] == pytest.approx(0.713, abs=2e-3)
    assert found["explained_variance_blind_to_offset"] == pytest.approx(1.000, abs=1e-6)
    assert found["normalised_error"] == pytest.approx(0.0097, abs=1e-4)
    assert found["r2_around_scalar_mean"] == pytest.approx(0.750, abs=2e-3)
    x = x - 5 + torch.linspace(-5, 5, 16)
    found = only(of(x, rebuilt=x + 0.5))
    assert found["r2_around_scalar_mean"] == pytest.approx(0.976, abs=2e-3)
    assert found["explained_variance"] == pytest.approx(0.751, abs=2e-3)


def test_the_ends_of_explained_variance() -> None:
    y, _, _ = made()
    assert only(of(y, rebuilt=y))["explained_variance"] == 1.0
    mean = y.mean(0).expand_as(y)
    assert only(of(y, rebuilt=mean))["explained_variance"] == pytest.approx(0.0, abs=1e-12)


def test_every_measure_by_its_definition() -> None:
    y, codes, rebuilt = made()
    lengths, b_dec = torch.linspace(0.5, 2, 11, dtype=torch.float64), torch.full((7,), 0.4).double()
    found = only(of(y, codes, rebuilt, lengths=lengths, b_dec=b_dec, size=64))
    y, f, r, n, b = (x.numpy() for x in (y, codes, rebuilt, lengths, b_dec))
    e = y - r
    e2, y2, c2 = (e**2).sum(1), (y**2).sum(1), ((y - y.mean(0)) ** 2).sum(1)
    k = (f != 0).sum(1)
    dense, sparse = np.linalg.norm(y - b, axis=1), np.linalg.norm(f * n, axis=1)
    gap = np.abs(dense**2 - sparse**2) / np.where(k > 0, sparse**2, 1)
    gap_bias = np.abs(y2 - sparse**2 - b @ b) / (sparse**2 + b @ b)
    with_bias = np.sqrt(sparse**2 + b @ b)
    wanted = {
        "explained_variance": 1 - e2.mean() / (y2.mean() - (y.mean(0) ** 2).sum()),
        "explained_variance_mean_of_ratios": (1 - e2 / c2).mean(),
        "explained_variance_blind_to_offset": 1 - e.var(0).sum() / y.var(0).sum(),
        "r2_around_scalar_mean": 1 - e2.sum() / ((y - y.mean()) ** 2).sum(),
        "normalised_error": (e2 / y2).mean(),
        "squared_error": e2.mean(),
        "error_norm": np.sqrt(e2).mean(),
        "cosine": ((y * r).sum(1) / np.sqrt(y2 * (r**2).sum(1))).mean(),
        "length_ratio": (np.linalg.norm(r, axis=1) / np.sqrt(y2)).mean(),
        "reconstruction_bias": (r**2).sum() / (y * r).sum(),
        "l0": k.mean(),
        "l1": f.sum(1).mean(),
        "empty_rows": (k == 0).mean(),
        "description_length": k.mean() * (7 + np.log2(11)),
        "norm_error": (np.abs(sparse - dense) / dense).mean(),
        "under_activated": (sparse < dense)[k > 0].mean(),
        "elbo_h": (gap / 10)[k > 1].mean(),
        "elbo_k": (gap[k > 1] / (k[k > 1] - 1)).mean(),
        "norm_error_with_bias": (np.abs(with_bias - np.sqrt(y2)) / np.sqrt(y2)).mean(),
        "elbo_h_with_bias": (gap_bias / 11)[k > 0].mean(),
        "elbo_k_with_bias": (gap_bias[k > 0] / k[k > 0]).mean(),
    }
    assert found == pytest.approx(wanted, rel=1e-10)


def test_density_and_dead_latents_of_a_mask() -> None:
    codes = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.5], [0.0, 0.0, 0.1], [0.5, 0.0, -1.0]])
    found = of(torch.randn(4, 2), codes, torch.zeros(4, 2))
    assert found.density.tolist() == [0.75, 0.0, 0.75]
    assert found.fired.tolist() == [3, 0, 3]  # what is not 0 counts, not only what is above
    assert found.mean_active[0] == pytest.approx(3.5 / 3)
    assert torch.isnan(found.mean_active[1])
    assert only(found)["l0"] == 1.5
    assert found.rows == 4


def test_blocks_and_parts_change_nothing() -> None:
    y, codes, rebuilt = made()
    whole, small = of(y, codes, rebuilt), of(y, codes, rebuilt, size=64)
    assert only(small) == pytest.approx(only(whole), rel=1e-12)
    assert small.most == whole.most
    first, second = (Accumulator(y.mean(0), torch.ones(11), torch.zeros(7), 1) for _ in range(2))
    first.add(y[:250], codes[:250], rebuilt[:250])
    second.add(y[250:], codes[250:], rebuilt[250:])
    first.merge(second)
    assert only(first) == pytest.approx(only(whole), rel=1e-12)
    assert first.most == whole.most
    assert torch.equal(first.fired, whole.fired)
    with pytest.raises(ValueError, match="around another mean, do not merge"):
        first.merge(Accumulator(y.mean(0) + 1, torch.ones(11), torch.zeros(7), 1))


def test_the_order_of_latents_changes_nothing() -> None:
    y, codes, rebuilt = made()
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    lengths = torch.linspace(0.5, 2, 11)
    one = of(y, codes, rebuilt, lengths=lengths)
    other = of(y, codes[:, order], rebuilt, lengths=lengths[order])
    assert only(other) == pytest.approx(only(one), rel=1e-12)
    assert torch.equal(other.fired, one.fired[order])


def test_single_precision_is_as_good() -> None:
    y, codes, rebuilt = made()
    found = only(of(y.float(), codes.float(), rebuilt.float()))
    assert found == pytest.approx(only(of(y, codes, rebuilt)), rel=1e-3)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    y, codes, rebuilt = made()
    near = only(of(y, codes, rebuilt))["explained_variance"]
    far = only(of(y + 1e6, codes, rebuilt + 1e6))["explained_variance"]
    assert far == pytest.approx(near, rel=1e-6)


def test_sums_around_another_point_give_the_same_variance() -> None:
    """The mean of all rows is not that of the rows of one draw of texts."""
    y, codes, rebuilt = made()
    found = Accumulator(y.mean(0) + 2, torch.ones(11), torch.zeros(7))
    found.add(y, codes, rebuilt)
    one, wanted = only(found), only(of(y, codes, rebuilt))
    for key in ("explained_variance", "explained_variance_blind_to_offset"):
        assert one[key] == pytest.approx(wanted[key], rel=1e-10)
    assert one["r2_around_scalar_mean"] == pytest.approx(wanted["r2_around_scalar_mean"], rel=1e-10)


def test_intervals_resample_texts() -> None:
    """Rows of one text that are all alike: as many texts as rows would be far too sure."""
    drawn = torch.Generator().manual_seed(0)
    groups = torch.arange(1200) // 40
    y = torch.randn(1200, 4, generator=drawn)
    error = torch.rand(30, 1, generator=drawn)[groups] * torch.ones(1200, 4)
    low, high = of(y, rebuilt=y + error, groups=groups).intervals()["squared_error"]
    value = float(error.square().sum(1).mean())
    own = of(y, rebuilt=y + error, groups=torch.arange(1200)).intervals()["squared_error"]
    assert low < value < high
    assert high - low > 4 * (own[1] - own[0])
    by_text = error[::40].square().sum(1).double().numpy()
    spread = by_text.std() / np.sqrt(30)
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    alone = of(y, rebuilt=y + error).intervals()["squared_error"]
    assert np.isnan(alone).all()


def test_more_texts_than_blocks_share_them() -> None:
    y = torch.randn(3000, 4, generator=torch.Generator().manual_seed(0))
    found = of(y, rebuilt=0.5 * y, groups=torch.arange(3000))
    assert found.blocks == 512
    low, high = found.intervals()["squared_error"]
    spread = float((0.25 * y.square().sum(1)).std()) / 3000**0.5
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_rows_without_a_code_or_of_zeros() -> None:
    y = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]])
    codes = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    found = only(of(y, codes, torch.zeros(3, 2)))
    assert found["empty_rows"] == pytest.approx(2 / 3)
    assert found["normalised_error"] == 1.0  # of the two rows that are not 0
    assert np.isfinite([found["norm_error"], found["elbo_k"], found["cosine"]]).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu() -> None:
    y, codes, rebuilt = made()
    groups = torch.arange(600) // 20
    here = of(y, codes, rebuilt, groups=groups)
    there = Accumulator(y.cuda().mean(0), torch.ones(11).cuda(), torch.zeros(7).cuda(), 30)
    there.add(y.cuda(), codes.cuda(), rebuilt.cuda(), groups.cuda())
    assert only(there) == pytest.approx(only(here), rel=1e-9)
    ends = there.intervals()["explained_variance"]
    assert ends == pytest.approx(here.intervals()["explained_variance"], rel=1e-9)
