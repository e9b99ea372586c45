"""CKA and the sums over pairs of rows: against plain loops, golden values, and drawn nulls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from layerscope.analyses.measures import cka, pair_sums
from layerscope.planted import clouds

BOUNDS = (0, 10, 25, 40, 60)


def isotropic(rows: int, width: int, seed: int) -> Tensor:
    return clouds.gaussian(rows, clouds.isotropic(width), seed=seed)


@pytest.fixture(scope="module")
def several() -> list[Tensor]:
    """Four sites of sixty rows; the last holds the first."""
    x = [clouds.gaussian(60, clouds.power_law(p), seed=p) for p in (5, 9, 30)]
    return [cka.centred(part) for part in (*x, torch.cat([x[0], 0.3 * isotropic(60, 2, 7)], 1))]


def plain(x: Tensor, y: Tensor, *, unbiased: bool) -> float:
    """HSIC from whole matrices, as the papers write it."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    if not unbiased:
        centre = torch.eye(n, dtype=torch.float64) - 1 / n
        return float(((centre @ k @ centre) * (centre @ m @ centre)).sum())
    k.fill_diagonal_(0)
    m.fill_diagonal_(0)
    both = k.sum() * m.sum() / ((n - 1) * (n - 2))
    return float(((k @ m).trace() + both - 2 / (n - 2) * (k @ m).sum()) / (n * (n - 3)))


def by_tiles(x: list[Tensor], bounds: tuple[int, ...] = BOUNDS) -> pair_sums.PairSums:
    diagonal = torch.stack([part.square().sum(1) for part in x])
    return pair_sums.tile_sums(lambda s, r, c: x[s][r] @ x[s][c].T, diagonal, bounds)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("way", ["tiles", "features"])
def test_all_pairs_and_all_left_out_blocks_are_those_of_a_loop(
    several: list[Tensor], unbiased: bool, way: str
) -> None:
    diagonal = torch.stack([part.square().sum(1) for part in several])
    sums = (
        by_tiles(several) if way == "tiles" else pair_sums._feature_sums(several, diagonal, BOUNDS)
    )
    found = (cka.hsic_unbiased if unbiased else cka.hsic_biased)(sums)
    for block in range(-1, 4):
        kept = torch.ones(60, dtype=torch.bool)
        if block >= 0:
            kept[BOUNDS[block] : BOUNDS[block + 1]] = False
        expected = [[plain(x[kept], y[kept], unbiased=unbiased) for y in several] for x in several]
        torch.testing.assert_close(found[block + 1], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_tiles_of_any_size_give_the_same(
    several: list[Tensor], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = by_tiles(several)
    monkeypatch.setattr(pair_sums, "TILE", size)
    found = by_tiles(several)
    for name in ("product", "shared", "total", "diagonal", "mixed", "trace"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


def test_the_cheaper_way_is_taken(several: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows of wide features: Gram matrices; many rows of narrow ones: cross-covariances."""
    taken = []
    for name in ("tile_sums", "_feature_sums"):
        real = getattr(pair_sums, name)

        def spy(*given: object, name: str = name, real: object = real) -> object:
            taken.append(name)
            return real(*given)  # type: ignore[operator]

        monkeypatch.setattr(pair_sums, name, spy)
    pair_sums.linear_sums([cka.centred(isotropic(20, 200, s)) for s in range(2)], (0, 20))
    pair_sums.linear_sums([cka.centred(isotropic(500, 5, s)) for s in range(2)], (0, 500))
    assert taken == ["tile_sums", "_feature_sums"]


# Golden values


def test_rotated_and_scaled_features_are_the_same() -> None:
    x = isotropic(100, 20, 0)
    y = 3 * x @ clouds.rotation(20) + 5
    assert cka.cka(x, y) == pytest.approx(1, abs=1e-6)
    assert cka.cka(x, y, unbiased=False) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "expected", "within"),
    [(100, 0.8366, 0.01), (1000, 0.338, 0.003), (5000, 0.093, 0.001)],
)
def test_independent_features_look_alike_to_biased_cka(
    rows: int, expected: float, within: float
) -> None:
    x, y = isotropic(rows, 512, 1), isotropic(rows, 512, 2)
    assert cka.cka(x, y, unbiased=False) == pytest.approx(expected, abs=within)
    assert cka.cka(x, y) == pytest.approx(0, abs=0.02)
    assert 512 / (rows + 512) == pytest.approx(expected, abs=within)


def test_noise_takes_the_square_of_the_share_away() -> None:
    x = isotropic(4000, 20, 3)
    y = clouds.blurred(x, 0.8, seed=4)
    assert cka.cka(x, y) == pytest.approx(0.64, abs=0.01)
    assert cka.cka(x, y, unbiased=False) == pytest.approx(0.643, abs=0.01)


def test_collapsed_classes_against_their_one_hot_code() -> None:
    rows, classes = clouds.collapsed(1000, clouds.simplex(10) @ clouds.rotation(10))
    code = torch.eye(10, dtype=torch.float64)[classes]
    assert cka.cka(rows, code, unbiased=False) == pytest.approx(1, abs=1e-9)
    loose, _ = clouds.collapsed(1000, isotropic(10, 400, 0))
    assert cka.cka(loose, code, unbiased=False) == pytest.approx(0.988, abs=0.003)


# Nulls


def test_nulls_are_those_of_rows_in_random_order(several: list[Tensor]) -> None:
    sums = by_tiles(several)
    mean, deviation = cka.permuted_cka(sums)
    generator = torch.Generator().manual_seed(0)
    biased, unbiased = [], []
    own = [[plain(x, x, unbiased=u) for u in (False, True)] for x in several]
    for _ in range(1500):
        y = several[2][torch.randperm(60, generator=generator)]
        biased.append(plain(several[0], y, unbiased=False) / (own[0][0] * own[2][0]) ** 0.5)
        unbiased.append(plain(several[0], y, unbiased=True) / (own[0][1] * own[2][1]) ** 0.5)
    assert np.mean(biased) == pytest.approx(float(mean[0, 2]), abs=4 * np.std(biased) / 1500**0.5)
    assert np.std(biased) == pytest.approx(float(deviation[0, 2]), rel=0.08)
    assert np.mean(unbiased) == pytest.approx(0, abs=4 * np.std(unbiased) / 1500**0.5)
    assert np.std(unbiased) == pytest.approx(cka.permuted_deviation(60), rel=0.08)


def test_a_shift_of_all_rows_changes_neither_values_nor_nulls(several: list[Tensor]) -> None:
    """With a mean the row sums are not 0, and every term of the sums counts."""
    moved = [x + 0.1 * torch.arange(x.shape[1]) for x in several]
    ours, theirs = by_tiles(several), by_tiles(moved)
    torch.testing.assert_close(cka.hsic_biased(theirs), cka.hsic_biased(ours))
    torch.testing.assert_close(cka.hsic_unbiased(theirs), cka.hsic_unbiased(ours))
    for a, b in zip(cka.permuted_cka(theirs), cka.permuted_cka(ours), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_the_null_of_isotropic_features_is_the_known_law() -> None:
    sums = by_tiles([cka.centred(isotropic(100, 512, s)) for s in (1, 2)], (0, 100))
    assert float(cka.permuted_cka(sums)[0][0, 1]) == pytest.approx(0.8366, abs=0.01)


# Batches, kernels, bad input


def test_minibatches_are_the_ratio_of_averaged_hsic() -> None:
    x = isotropic(2048, 20, 3)
    y = clouds.blurred(x, 0.8, seed=4)
    streamed = cka.MinibatchCKA()
    terms = []
    for part in range(0, 2048, 64):
        a, b = (z[part : part + 64] for z in (x, y))
        streamed.update([a, b])
        terms.append([plain(*pair, unbiased=True) for pair in ((a, b), (a, a), (b, b))])
    top, left, right = np.mean(terms, axis=0)
    whole, without = streamed.values()
    assert float(whole[0, 1]) == pytest.approx(top / (left * right) ** 0.5)
    assert float(whole[0, 1]) == pytest.approx(0.64, abs=0.02)
    assert without.shape == (32, 2, 2)
    top, left, right = np.mean(terms[1:], axis=0)
    assert float(without[0, 0, 1]) == pytest.approx(top / (left * right) ** 0.5)


def test_gaussian_kernels_are_those_of_scikit_learn() -> None:
    from scipy.spatial.distance import pdist
    from sklearn.metrics.pairwise import rbf_kernel

    x, y = isotropic(50, 4, 0), clouds.blurred(isotropic(50, 4, 0), 0.9, seed=1)
    sums = cka.rbf_sums([x, y], (0, 25, 50), bandwidth=0.8)
    kernels = []
    for part in (x.numpy(), y.numpy()):
        # torch's median is the lower of the two in the middle.
        between = np.sort(pdist(part))
        middle = between[(len(between) - 1) // 2]
        kernel = torch.from_numpy(rbf_kernel(part, gamma=1 / (2 * (0.8 * middle) ** 2)))
        kernels.append(kernel.fill_diagonal_(0))
    n = 50
    found = cka.hsic_unbiased(sums)[0]
    for i in range(2):
        for j in range(2):
            k, m = kernels[i], kernels[j]
            both = k.sum() * m.sum() / ((n - 1) * (n - 2))
            expected = ((k @ m).trace() + both - 2 / (n - 2) * (k @ m).sum()) / (n * (n - 3))
            assert float(found[i, j]) == pytest.approx(float(expected))


def test_three_rows_are_refused_and_constant_sites_have_no_value() -> None:
    with pytest.raises(ValueError, match="at least 4 rows, there are 3"):
        cka.cka(torch.rand(3, 2), torch.rand(3, 2))
    assert np.isnan(cka.cka(torch.ones(9, 2), torch.rand(9, 2)))


def test_feature_order_and_precision_change_nothing() -> None:
    x, y = isotropic(200, 30, 0), isotropic(200, 12, 0)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert cka.cka(x[:, order], y) == pytest.approx(cka.cka(x, y))
    assert cka.cka(x.float(), y.float()) == pytest.approx(cka.cka(x, y), rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("rows", [80, 800])
def test_cuda_agrees(rows: int) -> None:
    x = [isotropic(rows, p, p) for p in (30, 40, 50)]
    there = [cka.centred(part.float().cuda()) for part in x]
    bounds = (0, rows // 2, rows)
    ours = cka.hsic_unbiased(pair_sums.linear_sums([cka.centred(part) for part in x], bounds))
    theirs = cka.hsic_unbiased(pair_sums.linear_sums(there, bounds)).cpu()
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3 * float(ours.abs().max()))
