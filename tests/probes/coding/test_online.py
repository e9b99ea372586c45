"""The online code: known compressions, scikit-learn block by block, and what must not change it."""

from __future__ import annotations

from math import log2

import numpy as np
import pytest
import torch
from torch import Tensor

from layerscope.probes.coding import online
from layerscope.probes.coding.online import FRACTIONS, frequency_code, online_code, orders
from layerscope.probes.solving.engine import Engine, engine

ROWS = 16384


@pytest.fixture
def torch_engine() -> Engine:
    return engine("torch", 0, device="cpu")


def draw(gap: float, width: int, seed: int, rows: int = ROWS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (rows,), generator=generator)
    x = torch.randn(rows, width, generator=generator)
    x[:, 0] += gap * (y - 0.5)
    return x, y


def compression(gap: float, width: int, l2: float | None, by: Engine, seeds: int = 3) -> float:
    bits = []
    for seed in range(seeds):
        x, y = draw(gap, width, seed)
        order = orders(np.arange(ROWS), seed=seed)[0]
        bits.append(online_code(x, y[None], 2, order, by, l2=l2).bits.mean())
    return float(1 / np.mean(bits))


@pytest.mark.parametrize(
    ("gap", "width", "l2", "expected", "within"),
    [
        (0, 1, 1.0, 0.999, 0.003),
        (0, 64, 1.0, 0.966, 0.008),
        (0, 64, 100.0, 0.990, 0.006),
        (2, 1, 1.0, 1.91, 0.04),
        (2, 64, 1.0, 1.82, 0.04),
        (4, 1, 1.0, 11.1, 0.8),
        (4, 64, 1.0, 8.8, 0.6),
    ],
)
def test_gaussians_a_gap_apart_take_the_known_number_of_bits(
    gap, width, l2, expected, within, torch_engine
) -> None:
    found = compression(gap, width, l2, torch_engine)
    assert found == pytest.approx(expected, abs=within)
    # No code is shorter than the entropy of the labels given the rows.
    assert found < {0: 1.001, 2: 1.945 * 1.02, 4: 11.5 * 1.05}[gap]


def test_random_labels_are_not_compressed_with_64_features(torch_engine) -> None:
    for l2 in (1.0, None):
        assert 0.96 - 0.005 <= compression(0, 64, l2, torch_engine) <= 1.0


def test_choosing_the_penalty_is_no_worse_than_the_best_single_one_by_much(torch_engine) -> None:
    chosen = compression(2, 64, None, torch_engine)
    single = [compression(2, 64, l2, torch_engine) for l2 in (1.0, 10.0, 100.0, 1000.0)]
    assert min(single) < chosen
    assert chosen > max(single) - 0.03


def three_classes(rows: int = 1200) -> tuple[Tensor, Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(3)
    y = torch.randint(3, (rows,), generator=generator)
    x = torch.randn(rows, 6, generator=generator) * torch.tensor([1, 5, 0.1, 1, 1, 2.0])
    x[:, 0] += y
    x[:, 1] -= 4.0 * (y == 2)
    return x, y, np.arange(rows) // 4


def test_scikit_learn_block_by_block_gives_the_same_bits(torch_engine, monkeypatch) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y, groups = three_classes()
    order = orders(groups, fractions=(0.03, 0.06, 0.125, 0.25, 0.5, 1), seed=1)[0]
    early = online_code(x, y[None], 3, order, torch_engine, l2=2.0)
    monkeypatch.setattr(online, "TOL", 1e-10)
    found = online_code(x, y[None], 3, order, torch_engine, l2=2.0)
    xs, ys = x.double().numpy()[order.index], y.numpy()[order.index]
    bits = np.full(len(ys), log2(3))
    for start, stop in zip(order.bounds[1:], order.bounds[2:], strict=False):
        mean, scale = xs[:start].mean(0), xs[:start].std(0)
        model = LogisticRegression(C=1 / 2.0, tol=1e-8, max_iter=5000)
        model.fit((xs[:start] - mean) / scale, ys[:start])
        assert list(model.classes_) == [0, 1, 2]
        p = model.predict_proba((xs[start:stop] - mean) / scale)
        mixed = 0.999 * p[np.arange(stop - start), ys[start:stop]] + 0.001 / 3
        bits[start:stop] = -np.log2(mixed)
    np.testing.assert_allclose(found.bits[0][order.index], bits, atol=2e-3)
    # Stopping where accuracy has settled costs nothing that shows in the whole code.
    assert early.bits.sum() == pytest.approx(bits.sum(), rel=1e-3)


def test_the_engine_of_scikit_learn_gives_the_same_code(torch_engine) -> None:
    x, y, groups = three_classes(600)
    order = orders(groups)[0]
    ours = online_code(x, y[None], 3, order, torch_engine)
    theirs = online_code(x, y[None], 3, order, engine("sklearn", 0))
    assert ours.penalties == theirs.penalties
    assert ours.bits.sum() == pytest.approx(theirs.bits.sum(), rel=2e-3)


def test_the_order_of_features_and_the_dtype_do_not_matter(torch_engine) -> None:
    x, y, groups = three_classes(600)
    order = orders(groups)[0]
    plain = online_code(x, y[None], 3, order, torch_engine, l2=1.0)
    mixed = online_code(x[:, [3, 1, 5, 0, 2, 4]], y[None], 3, order, torch_engine, l2=1.0)
    double = online_code(x.double(), y[None], 3, order, torch_engine, l2=1.0)
    np.testing.assert_allclose(mixed.bits, plain.bits, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(double.bits, plain.bits, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_gpu_the_code_is_the_same(torch_engine) -> None:
    x, y, groups = three_classes(600)
    order = orders(groups)[0]
    here = online_code(x, y[None], 3, order, torch_engine, l2=1.0)
    there = online_code(x, y[None], 3, order, engine("torch", 0, device="cuda"), l2=1.0)
    np.testing.assert_allclose(there.bits, here.bits, rtol=1e-3, atol=1e-3)


def test_a_block_never_sees_its_own_labels_nor_later_ones(torch_engine) -> None:
    x, y, groups = three_classes(600)
    order = orders(groups)[0]
    cut = order.bounds[-2]
    changed = y.clone()
    late = torch.from_numpy(order.index[cut::2])  # half of the last block
    changed[late] = (changed[late] + 1) % 3
    before = online_code(x, y[None], 3, order, torch_engine, l2=1.0)
    after = online_code(x, changed[None], 3, order, torch_engine, l2=1.0)
    same = (changed == y).numpy()
    np.testing.assert_array_equal(before.bits[0][same], after.bits[0][same])
    assert after.bits[0].sum() > before.bits[0].sum()


def test_the_first_block_is_uniform_and_nothing_costs_more_than_the_smoothing_allows(
    torch_engine,
) -> None:
    x, y, groups = three_classes(600)
    y[torch.from_numpy(orders(groups)[0].index[-8:])] = 3  # a class seen in the last block only
    order = orders(groups)[0]
    found = online_code(x, y[None], 4, order, torch_engine, l2=1.0)
    assert (found.bits[0][order.index[: order.bounds[1]]] == 2.0).all()
    assert not found.hits[0][order.index[: order.bounds[1]]].any()
    unseen = found.bits[0][order.index[-8:]]
    assert unseen.min() > 5
    assert found.bits.max() <= -log2(1e-3 / 4) + 1e-9
    certain = online._bits(torch.tensor([[90.0, 0.0]]), torch.tensor([1]), 1e-3)
    assert certain.item() == pytest.approx(-log2(1e-3 / 2), abs=1e-9)


def test_groups_stay_whole_and_blocks_end_with_them() -> None:
    groups = np.repeat(np.arange(60), np.random.default_rng(0).integers(1, 40, 60))
    for order in orders(groups, count=3, seed=5):
        sent = groups[order.index]
        assert sorted(order.index.tolist()) == list(range(len(groups)))
        assert np.count_nonzero(np.diff(sent)) == 59
        for cut in order.bounds[1:-1]:
            assert sent[cut - 1] != sent[cut]
        ends = np.flatnonzero(np.diff(sent)) + 1
        wanted = [f * len(groups) for f in FRACTIONS if f < 1]
        first = {int(ends[ends >= max(1, round(w))].min()) for w in wanted if ends[-1] >= round(w)}
        assert first <= set(order.bounds)
    one, two = orders(groups, count=2, seed=5)
    assert one.index.tolist() != two.index.tolist()
    assert orders(groups, seed=5)[0].index.tolist() == one.index.tolist()


def test_the_code_by_class_frequencies_is_what_a_loop_says() -> None:
    y = np.random.default_rng(1).choice(4, 500, p=[0.6, 0.2, 0.15, 0.05])
    order = orders(np.arange(500), seed=2)[0]
    found = frequency_code(y, 4, order)
    block_of = np.searchsorted(order.bounds, np.arange(500), side="right") - 1
    for place in range(0, 500, 7):
        start = order.bounds[block_of[place]]
        seen = list(y[order.index[:start]])
        p = seen.count(y[order.index[place]]) / start if start else 0.25
        p = 0.999 * p + 0.001 / 4 if start else p
        assert found[order.index[place]] == pytest.approx(-log2(p), abs=1e-12)


def test_bad_fractions_and_a_single_group_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ascend from above 0 to 1, got \(0\.5, 0\.1, 1\)"):
        orders(np.arange(10), fractions=(0.5, 0.1, 1))
    with pytest.raises(ValueError, match="two groups or more"):
        orders(np.zeros(10, int))
