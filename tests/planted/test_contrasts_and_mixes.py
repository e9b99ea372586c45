"""Planted pairs, traces, layers and tokens are what they say."""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch

from layerscope.planted.contrasts import centroid_accuracy, contrast_pairs, trace_deltas
from layerscope.planted.mixes import labelled_layer, labelled_mean

PHI = NormalDist().cdf


def test_pairs_differ_along_their_axes() -> None:
    made = contrast_pairs(4000, 6, truth=2.0, form=5.0, distractor=3.0)
    difference = made.first - made.second
    for axis, bit, size in ((0, made.truth, 4.0), (2, made.distractor, 6.0)):
        assert difference[bit, axis].mean().item() == pytest.approx(size, abs=0.15)
        assert difference[~bit, axis].mean().item() == pytest.approx(-size, abs=0.15)
    assert difference[:, 1].mean().item() == pytest.approx(10, abs=0.15)
    assert difference[:, 5].mean().item() == pytest.approx(0, abs=0.15)
    assert difference[:, 5].std().item() == pytest.approx(2**0.5, abs=0.05)


def test_traces_lie_a_gap_apart_in_each_layer() -> None:
    deltas, correct = trace_deltas(6000, 4, 10, gap=3.0)
    apart = (deltas[correct].mean(0) - deltas[~correct].mean(0)).norm(dim=1)
    assert apart.tolist() == pytest.approx([3.0] * 4, abs=0.2)


def test_the_formula_has_its_known_values() -> None:
    assert centroid_accuracy(0.5, 8, 64, 2000) == pytest.approx(0.718, abs=1e-3)
    assert centroid_accuracy(1.0, 8, 64, 2000) == pytest.approx(0.909, abs=1e-3)
    assert centroid_accuracy(1.0, 8, 64, 10**12) == pytest.approx(PHI(8**0.5 / 2), abs=1e-9)
    assert centroid_accuracy(0.0, 8, 64, 2000) == 0.5


def test_one_layer_knows_and_sizes_grow() -> None:
    stack, y = labelled_layer(4000, 3, 5, where=1, gap=2.0)
    means = stack[:, y == 1].mean(1) - stack[:, y == 0].mean(1)
    assert means[1, 0].item() == pytest.approx(2 * 2.0, abs=0.2)
    means[1, 0] = 0
    assert means.abs().max() < 0.3
    assert stack[2].std().item() == pytest.approx(3, abs=0.1)


def test_means_of_texts_know_and_last_tokens_do_not() -> None:
    lengths = [5, 9] * 1500
    x, text, y = labelled_mean(lengths, 3, shift=1.0)
    sums = torch.zeros(3000, 3).index_add_(0, text, x)
    long = torch.tensor(lengths) == 9
    hits = ((sums[:, 0] > 0) == (y == 1))[long].float().mean().item()
    assert hits == pytest.approx(PHI(1.0 * 8 / 9**0.5), abs=0.01)
    last = torch.tensor(lengths).cumsum(0) - 1
    assert ((x[last, 0] > 0) == (y == 1)).float().mean().item() == pytest.approx(0.5, abs=0.03)
