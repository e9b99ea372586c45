"""Random dictionary and PCA against their closed forms."""

from __future__ import annotations

import pytest
import torch

from layerscope.analyses.sae.measuring.accumulator import Accumulator
from layerscope.analyses.sae.measuring.baselines import (
    explained_by_rank,
    linear,
    random_dictionary,
    rank_for,
)
from layerscope.analyses.sae.measuring.row_moments import RowMoments
from layerscope.analyses.sae.sae import SAE


def rows(count: int = 2000, d: int = 8, seed: int = 0) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(count, d, generator=drawn, dtype=torch.float64) * torch.linspace(0.3, 3, d)
    return (x + 4).double()


def moments_of(x, y=None):
    found = RowMoments()
    for part in torch.arange(len(x)).split(300):
        found.add(x[part], x[part]) if y is None else found.add(x[part], y[part])
    return found


def like(d_in: int, d_out: int, latents: int = 40) -> SAE:
    wide = {"dtype": torch.float64}
    return SAE(
        torch.zeros(d_in, latents, **wide), torch.zeros(latents, **wide),
        torch.zeros(latents, d_out, **wide), torch.zeros(d_out, **wide), subtract_b_dec=False,
    )  # fmt: skip


def explained(sae: SAE, x, y) -> float:
    codes = sae.encode(x)
    found = Accumulator.of(sae, y.mean(0))
    found.add(y, codes, sae.decode(codes, x))
    return float(found.values()["explained_variance"][0])


def test_moments_are_those_of_all_rows() -> None:
    x = rows() + 1e5
    found = RowMoments()
    for part in x.split(300):
        found.add(part, part)
    result = found.result()
    torch.testing.assert_close(result.mean_x, x.mean(0))
    torch.testing.assert_close(result.cov_xx, x.T.cov(correction=0), rtol=1e-6, atol=1e-6)
    assert result.norm_x == pytest.approx(float(x.norm(dim=1).mean()))
    y = x[:, :3] ** 2
    apart = moments_of(x, y).result()
    both = torch.cat([x, y], 1).T.cov(correction=0)
    torch.testing.assert_close(apart.cov_xy, both[:8, 8:], rtol=1e-4, atol=1e-2)
    same = RowMoments()
    same.add(torch.ones(5, 2), torch.ones(5, 2))
    with pytest.raises(ValueError, match="all 5 rows are the same"):
        same.result()


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_pca_is_scikit_learns(rank) -> None:
    from sklearn.decomposition import PCA

    x = rows()
    found = RowMoments()
    found.add(x, x)
    moments = found.result()
    sae = linear(moments, rank, like(8, 8))
    pca = PCA(rank).fit(x.numpy())
    wanted = torch.from_numpy(pca.inverse_transform(pca.transform(x.numpy())))
    torch.testing.assert_close(sae(x), wanted, rtol=1e-8, atol=1e-8)
    assert (sae.encode(x) != 0).sum(1).double().mean() == rank
    assert explained(sae, x, x) == pytest.approx(pca.explained_variance_ratio_.sum())
    assert float(explained_by_rank(moments)[rank - 1]) == pytest.approx(explained(sae, x, x))


def test_the_rank_that_explains_as_much() -> None:
    x = rows()
    found = RowMoments()
    found.add(x, x)
    moments = found.result()
    by_rank = explained_by_rank(moments)
    assert rank_for(moments, float(by_rank[2])) == 3
    assert rank_for(moments, float(by_rank[2]) + 1e-6) == 4
    assert rank_for(moments, -0.3) == 0
    assert rank_for(moments, 1.1) != rank_for(moments, 1.1)  # NaN: none does


def test_for_a_transcoder_it_is_reduced_rank_regression() -> None:
    x = rows()
    drawn = torch.Generator().manual_seed(1)
    y = x @ torch.randn(8, 5, generator=drawn, dtype=torch.float64)
    y = y + torch.randn(y.shape, generator=drawn, dtype=torch.float64) - 2
    moments = moments_of(x, y).result()
    full = linear(moments, 5, like(8, 5))
    a = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    least_squares = a @ torch.linalg.lstsq(a, y).solution
    torch.testing.assert_close(full(x), least_squares, rtol=1e-6, atol=1e-6)
    u, s, v = torch.linalg.svd(least_squares - y.mean(0), full_matrices=False)
    best = (u[:, :2] * s[:2]) @ v[:2] + y.mean(0)
    torch.testing.assert_close(linear(moments, 2, like(8, 5))(x), best, rtol=1e-6, atol=1e-6)
    assert float(explained_by_rank(moments)[1]) == pytest.approx(
        explained(linear(moments, 2, like(8, 5)), x, y), abs=1e-9
    )


def test_a_random_dictionary_is_as_wide_and_as_sparse_and_has_the_best_scale() -> None:
    x = rows()
    found = RowMoments()
    found.add(x, x)
    moments = found.result()
    sae = random_dictionary(moments, x, x, like(8, 8), k=3, seed=0)
    assert (sae.n_latents, sae.k) == (40, 3)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(40, dtype=torch.float64))
    codes = sae.encode(x)
    assert (codes != 0).sum(1).unique().tolist() == [3]
    value = explained(sae, x, x)
    for factor in (0.8, 1.2):
        worse = Accumulator.of(sae, x.mean(0))
        worse.add(x, factor * codes, sae.decode(factor * codes))
        assert float(worse.values()["explained_variance"][0]) < value
    again = random_dictionary(moments, x, x, like(8, 8), k=3, seed=0)
    assert torch.equal(again.W_dec, sae.W_dec)
    other = random_dictionary(moments, x, x, like(8, 8), k=3, seed=1)
    assert not torch.equal(other.W_dec, sae.W_dec)
    y = x[:, :5] * 2
    apart = random_dictionary(moments_of(x, y).result(), x, y, like(8, 5), k=3, seed=0)
    assert explained(apart, x, y) > 0.1
