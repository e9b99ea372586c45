"""GDV: planted exact answers, a plain double loop, and what must not change it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import gamma, hyp1f1
from sklearn.metrics import silhouette_samples
from torch import Tensor

from layerscope.analyses.measures import gdv as module
from layerscope.analyses.measures.distances import distances
from layerscope.analyses.measures.gdv import (
    class_sums,
    energy,
    gdv,
    gdv_floor,
    gdv_from_distances,
    gdv_of_sums,
    half_z,
    without_blocks,
)
from layerscope.analyses.measures.silhouette import silhouettes


def gdv_many(d: Tensor, codes: Tensor, width: int) -> Tensor:
    """GDV of each labelling, block by block as `separation` does it."""
    found, first = [], 0
    for sums in class_sums(d, codes):
        found.append(gdv_of_sums(sums, codes[first : first + len(sums)], width).value)
        first += len(sums)
    return torch.cat(found)


def plain(x: np.ndarray, codes: np.ndarray) -> tuple[float, float, float]:
    """The published routine, pair by pair."""
    mean, sd = x.mean(0), x.std(0)
    z = np.divide(x - mean, 2 * sd, out=np.zeros_like(x), where=x.max(0) > x.min(0))
    classes = np.unique(codes)
    root = math.sqrt(x.shape[1])
    intra = []
    for one in classes:
        rows = z[codes == one]
        pairs = [math.dist(rows[i], rows[j]) for i in range(len(rows)) for j in range(i)]
        intra.append(sum(pairs) / len(pairs))
    inter = []
    for k, one in enumerate(classes):
        for other in classes[:k]:
            a, b = z[codes == one], z[codes == other]
            inter.append(sum(math.dist(i, j) for i in a for j in b) / (len(a) * len(b)))
    inside, outside = np.mean(intra) / root, np.mean(inter) / root
    return float(inside), float(outside), float(inside - outside)


def clouds(
    rows: int = 60, width: int = 7, classes: int = 4, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(classes, (rows,), generator=generator)
    codes[: 2 * classes] = torch.arange(2 * classes) % classes
    centres = torch.randn(classes, width, generator=generator)
    x = torch.randn(rows, width, generator=generator, dtype=torch.float64) + centres[codes]
    return x, codes


# Golden values


@pytest.mark.parametrize(
    ("classes", "floor"),
    [
        (2, -1),
        (3, -0.8660254),
        (5, -0.7905694),
        (10, -0.7453560),
        (12, -0.7385489),
        (45, -0.7150969),
    ],
)
def test_collapsed_balanced_classes_reach_the_floor(classes: int, floor: float) -> None:
    codes = torch.arange(classes).repeat_interleave(6)
    found = gdv(torch.eye(classes)[codes], codes)
    assert found.value.item() == pytest.approx(floor, abs=1e-6)
    assert found.intra.item() == 0
    assert gdv_floor([6] * classes) == pytest.approx(floor, abs=1e-6)
    assert floor == pytest.approx(-math.sqrt(classes / (2 * (classes - 1))), abs=1e-6)


def test_two_collapsed_classes_of_unequal_size_lie_below_minus_one() -> None:
    codes = torch.tensor([0] * 10 + [1] * 90)
    value = gdv(codes[:, None].float(), codes).value.item()
    assert value == pytest.approx(-1.6666667, abs=1e-6)
    assert gdv_floor([10, 90]) == pytest.approx(-1.6666667, abs=1e-6)


@pytest.mark.parametrize(
    ("sigma", "expected"), [(0.2, (0.2271, 0.9496, -0.7225)), (1.0, (0.5568, 0.6952, -0.1384))]
)
def test_the_self_test_of_the_published_routine(
    sigma: float, expected: tuple[float, float, float]
) -> None:
    first = np.random.RandomState(978820).normal(0, sigma, (1000, 2))
    x = torch.from_numpy(np.concatenate([first, first + 1]))
    found = gdv(x, torch.arange(2).repeat_interleave(1000))
    assert [part.item() for part in found] == pytest.approx(expected, abs=1e-3)


def between_gaussians(width: int, gap: float) -> float:
    """Population GDV of two unit Gaussians whose means are `gap` apart in every dimension."""
    c = math.sqrt(2) * gamma((width + 1) / 2) / gamma(width / 2)
    apart = math.sqrt(2) * c * hyp1f1(-0.5, width / 2, -width * gap**2 / 4)
    return (math.sqrt(2) * c - apart) / (2 * math.sqrt(width) * math.sqrt(1 + gap**2 / 4))


def test_the_formula_for_gaussians_gives_the_tabulated_values() -> None:
    for width, values in (
        (1, (-0.1212, -0.3437, -0.6426, -0.8333)),
        (10, (-0.1406, -0.3662, -0.6352, -0.8164)),
    ):
        for gap, value in zip((1, 2, 4, 8), values, strict=True):
            assert between_gaussians(width, gap) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(("width", "gap"), [(10, 2), (10, 1), (1, 4)])
def test_two_gaussians(width: int, gap: float) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.arange(3000) % 2
    x = torch.randn(3000, width, generator=generator) + gap * codes[:, None]
    expected = between_gaussians(width, gap)
    assert gdv(x, codes).value.item() == pytest.approx(expected, abs=0.012)


def test_noise_in_other_dimensions_dilutes_it() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.arange(2000) % 2
    for width, expected in ((1, -0.83), (10, -0.070), (100, -0.0066)):
        x = torch.randn(2000, width, generator=generator)
        x[:, 0] += 8 * codes
        assert gdv(x, codes).value.item() == pytest.approx(expected, rel=0.05)


# A second way of getting it


def test_a_plain_double_loop_gives_the_same() -> None:
    x, codes = clouds()
    expected = plain(x.numpy(), codes.numpy())
    assert [part.item() for part in gdv(x, codes)] == pytest.approx(expected, abs=1e-12)


def test_it_is_the_energy_distance() -> None:
    x, codes = clouds()
    d = distances(half_z(x))
    classes = int(codes.max()) + 1
    pairs = energy(d, codes).triu(1).sum().item()
    identity = -pairs / (classes * (classes - 1) * math.sqrt(x.shape[1]))
    assert gdv(x, codes).value.item() == pytest.approx(identity, abs=1e-10)


def test_no_labelling_is_below_the_floor_and_a_fitting_simplex_is_at_it() -> None:
    sizes = torch.tensor([40, 50, 60])
    codes = torch.arange(3).repeat_interleave(sizes)
    # The best corners: squared distances as 1 / (p_l p_m)^2, which for these sizes a triangle has.
    share = sizes.double() / sizes.sum()
    squares = 1 / (share[:, None] * share).square()
    squares.fill_diagonal_(0)
    middle = torch.eye(3, dtype=torch.float64) - 1 / 3
    values, vectors = torch.linalg.eigh(-middle @ squares @ middle / 2)
    assert values.min() > -1e-9
    corners = (vectors * values.clamp_min(0).sqrt())[codes]
    floor = gdv_floor(sizes.tolist())
    # Scaled as a whole to the variance that half-z-scored rows have, so that the corners stay.
    centred = corners - corners.mean(0)
    scaled = centred / (2 * centred.square().mean().sqrt())
    reached = gdv_from_distances(distances(scaled), codes, 3).value.item()
    assert reached == pytest.approx(floor, abs=1e-9)
    generator = torch.Generator().manual_seed(3)
    for _ in range(200):
        x = torch.randn(3, 4, generator=generator)[codes] + 0.1 * torch.randn(
            150, 4, generator=generator
        )
        assert gdv(x, codes).value.item() > floor


# What must not change it


def test_invariances() -> None:
    x, codes = clouds()
    value = gdv(x, codes).value.item()
    generator = torch.Generator().manual_seed(1)
    shift = 5 * torch.randn(7, generator=generator, dtype=torch.float64)
    scale = torch.tensor([0.1, 3, 40, 1, 7, -2, 1e4], dtype=torch.float64)
    order = torch.randperm(7, generator=generator)
    for same in (x + shift, x * scale, x[:, order], torch.cat([x, x], 1)):
        assert gdv(same, codes).value.item() == pytest.approx(value, abs=1e-12)
    rows = torch.randperm(len(x), generator=generator)
    assert gdv(x[rows], codes[rows]).value.item() == pytest.approx(value, abs=1e-12)
    names = torch.tensor([2, 0, 3, 1])
    assert gdv(x, names[codes]).value.item() == pytest.approx(value, abs=1e-12)


def test_a_rotation_does_change_it() -> None:
    x, codes = clouds()
    x[:, 0] *= 10
    turn = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(2)).double()).Q
    assert abs(gdv(x @ turn, codes).value.item() - gdv(x, codes).value.item()) > 0.01


def test_constant_features_become_zero_and_count_in_the_width() -> None:
    x, codes = clouds(rows=1000)
    same = torch.full((len(x), 7), 0.1, dtype=torch.float64)
    assert (same - same.mean(0)).abs().max() > 0  # such a mean is off in its last digit
    more = torch.cat([x, same], 1)
    found, expected = gdv(more, codes).value.item(), gdv(x, codes).value.item() / math.sqrt(2)
    assert found == pytest.approx(expected, abs=1e-12)
    assert half_z(more)[:, 7:].abs().max() == 0
    assert half_z(more)[:, :7].std(0, correction=0) == pytest.approx(np.full(7, 0.5))


def test_float32_gives_what_float64_gives() -> None:
    x, codes = clouds(rows=300, width=64)
    wide = gdv(x, codes).value.item()
    assert gdv(x.float(), codes).value.item() == pytest.approx(wide, rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_cuda_gives_what_the_processor_gives() -> None:
    x, codes = clouds(rows=300, width=64)
    expected = gdv(x, codes).value.item()
    assert gdv(x.float().cuda(), codes).value.item() == pytest.approx(expected, rel=1e-3)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    x, codes = clouds(rows=150)
    d = distances(half_z(x))
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([codes[torch.randperm(150, generator=generator)] for _ in range(70)])
    whole = gdv_many(d, draws, 7)
    monkeypatch.setattr(module, "BLOCK", 7)
    torch.testing.assert_close(gdv_many(d, draws, 7), whole, rtol=0, atol=1e-12)
    from layerscope.analyses.measures import distances as file

    monkeypatch.setattr(file, "BLOCK", 64)
    torch.testing.assert_close(distances(half_z(x)), d, rtol=0, atol=1e-10)


# Many labellings at once


def test_many_labellings_are_each_what_one_is() -> None:
    x, codes = clouds()
    d = distances(half_z(x))
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([codes[torch.randperm(60, generator=generator)] for _ in range(5)])
    one = [gdv_from_distances(d, draw, 7).value for draw in draws]
    torch.testing.assert_close(gdv_many(d, draws, 7), torch.stack(one), rtol=0, atol=1e-12)


def test_float32_is_enough_for_many_labellings() -> None:
    x, codes = clouds(rows=500, width=32)
    d = distances(half_z(x))
    found, expected = gdv_many(d.float(), codes[None], 32), gdv_many(d, codes[None], 32)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_shuffled_labels_are_at_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 256, generator=generator)
    d = distances(half_z(x))
    codes = torch.arange(1000) % 5
    draws = torch.stack([codes[torch.randperm(1000, generator=generator)] for _ in range(200)])
    null = gdv_many(d, draws, 256)
    assert 2 * null.std().item() == pytest.approx(1.4e-4, rel=0.15)  # nearly all lie within
    assert abs(null.mean().item()) < 4 * null.std().item() / math.sqrt(200)
    assert abs(gdv_from_distances(d, codes, 256).value.item()) < 3 * null.std().item()


def test_what_is_left_without_a_block_is_what_those_rows_have() -> None:
    x, codes = clouds(rows=60)
    d = distances(half_z(x))
    blocks = torch.randint(0, 5, (60,), generator=torch.Generator().manual_seed(0))
    for block, left in enumerate(without_blocks(d, codes, blocks)):
        kept = blocks != block
        assert left is not None
        own, silhouette = gdv_of_sums(*left, 7).value, silhouettes(*left)[0]
        expected = gdv_from_distances(d[kept][:, kept], codes[kept], 7).value
        assert own.item() == pytest.approx(expected.item(), abs=1e-12)
        rows = silhouette_samples(d[kept][:, kept].numpy(), codes[kept], metric="precomputed")
        np.testing.assert_allclose(silhouette, rows, atol=1e-9)


def test_a_class_that_is_gone_without_a_block_is_left_out_of_the_means() -> None:
    x, codes = clouds(rows=40)
    d = distances(half_z(x))
    blocks = (codes == 1).long()
    blocks[codes.eq(1).nonzero()[0]] = 0  # a single row of the class is left
    left = list(without_blocks(d, codes, blocks))
    assert left[0] is None  # all but one class are in block 0
    kept = codes != 1
    expected = gdv_from_distances(d[kept][:, kept], codes[kept] - (codes[kept] > 1).long(), 7)
    assert left[1] is not None
    assert gdv_of_sums(*left[1], 7).value.item() == pytest.approx(expected.value.item(), abs=1e-12)


def test_class_sums_add_up() -> None:
    x, codes = clouds()
    d = distances(half_z(x))
    sums = next(class_sums(d, codes[None]))[0]
    torch.testing.assert_close(sums.sum(1), d.sum(1))
    torch.testing.assert_close(sums[:, 1], d[:, codes == 1].sum(1))


def test_what_has_no_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"two classes or more .* rows by class: \[3, 1\]"):
        gdv(torch.randn(4, 2), torch.tensor([0, 0, 0, 1]))
    with pytest.raises(ValueError, match=r"two classes or more .* rows by class: \[4\]"):
        gdv(torch.randn(4, 2), torch.zeros(4, dtype=torch.long))


# Real activations


def test_the_sorting_model_by_its_published_activations(shared_data: Path) -> None:
    from safetensors.torch import load_file

    from layerscope.hooks.capture import capture
    from layerscope.hooks.load import load_model

    folder = shared_data / "nanogpt_sort"
    gold = load_file(folder / "gold_activations.safetensors")
    published, ids = [gold[f"block{layer}"] for layer in range(3)], gold["idx"].long()
    model = load_model(folder / "hf")
    with torch.no_grad(), capture(model, "blocks.*.resid_post") as seen:
        model(input_ids=ids)
    codes = ids.flatten()
    for layer, x in enumerate(published):
        expected = plain(x.flatten(0, 1).double().numpy(), codes.numpy())[2]
        found = gdv(seen[f"blocks.{layer}.resid_post"].flatten(0, 1), codes).value.item()
        assert found == pytest.approx(expected, abs=1e-5)
        assert found < -0.02  # the letter of the position is there to be seen
