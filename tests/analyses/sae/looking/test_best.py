"""The best few of a stream are what sorting all of it gives, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from layerscope.analyses.sae.looking.best import Best, chance

CPU = torch.device("cpu")


def stream(
    seed: int, rows: int = 60, latents: int = 4, values: int = 5
) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, values, size=(rows, latents))
    row, latent = codes.nonzero()
    value = torch.from_numpy(codes[row, latent]).float()
    return torch.from_numpy(row), torch.from_numpy(latent), value


def sorted_out(row, latent, score, unit, keep, latents):  # type: ignore[no-untyped-def]
    """Row numbers by a plain loop."""
    found = []
    for one in range(latents):
        own = sorted(
            (-float(s), int(r), int(u))
            for r, lat, s, u in zip(row, latent, score, unit, strict=True)
            if lat == one
        )
        rows, seen = [], set()
        for _, r, u in own:
            if u not in seen and len(rows) < keep:
                rows.append(r)
                seen.add(u)
        found.append(rows + [-1] * (keep - len(rows)))
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), block=st.integers(1, 70), keep=st.integers(1, 7))
def test_it_is_what_sorting_everything_gives(seed: int, block: int, keep: int) -> None:
    row, latent, value = stream(seed)
    text = row // 7
    best = Best(4, keep, CPU)
    for first in range(0, 60, block):
        part = (row >= first) & (row < first + block)
        best.add(latent[part], value[part], value[part], row[part], text[part])
    assert best.row.tolist() == sorted_out(row, latent, value, text, keep, 4)
    there = best.row >= 0
    codes = torch.zeros(60, 4).index_put((row, latent), value)
    own = torch.arange(4)[:, None].expand_as(best.row)
    assert torch.equal(best.value[there], codes[best.row[there], own[there]])
    assert torch.equal(best.score[there], best.value[there].double())


@pytest.mark.parametrize("block", [1, 13, 60])
def test_without_units_each_row_counts(block: int) -> None:
    row, latent, value = stream(3)
    best = Best(4, 5, CPU)
    for first in range(0, 60, block):
        part = (row >= first) & (row < first + block)
        best.add(latent[part], value[part], value[part], row[part])
    assert best.row.tolist() == sorted_out(row, latent, value, row, 5, 4)


def test_a_latent_that_is_never_seen_keeps_nothing() -> None:
    best = Best(3, 2, CPU)
    best.add(torch.tensor([1]), torch.tensor([2.0]), torch.tensor([2.0]), torch.tensor([9]))
    whole, broken = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    best.add(whole, broken, broken, whole, whole)
    assert best.row.tolist() == [[-1, -1], [9, -1], [-1, -1]]


def mixed(row: int, latent: int, seed: int) -> float:
    """splitmix64 on Python's own integers."""
    mask = (1 << 64) - 1
    golden = 0x9E3779B97F4A7C15

    def scrambled(x: int) -> int:
        x = (x ^ x >> 30) * (0xBF58476D1CE4E5B9) & mask
        x = (x ^ x >> 27) * (0x94D049BB133111EB) & mask
        return x ^ x >> 31

    x = scrambled((row * golden + seed) & mask)
    x = scrambled((x + latent * golden) & mask)
    return (x >> 11) * 2.0**-53


def test_chance_is_splitmix_of_row_and_latent() -> None:
    row, latent = torch.tensor([0, 5, 123_456_789]), torch.tensor([0, 7, 131_071])
    expected = [mixed(r, f, 3) for r, f in zip(row.tolist(), latent.tolist(), strict=True)]
    assert chance(row, latent, 3).tolist() == expected


def test_chance_is_uniform_and_its_seeds_and_latents_are_apart() -> None:
    row = torch.arange(20_000)
    one = chance(row, torch.zeros_like(row), 0)
    assert 0 <= float(one.min()) <= float(one.max()) < 1
    # Standard errors: 1 / sqrt(12 n) = 0.002 for means, 1 / sqrt(n) = 0.007 for correlations.
    assert float(one.mean()) == pytest.approx(0.5, abs=0.008)
    for other in (chance(row, torch.ones_like(row), 0), chance(row, torch.zeros_like(row), 1)):
        assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.03
    assert abs(float(torch.corrcoef(torch.stack([one[1:], one[:-1]]))[0, 1])) < 0.03


def test_the_greatest_chances_are_a_fair_sample() -> None:
    """Every row is drawn about equally often over seeds, wherever it stands in the stream."""
    row = torch.arange(50)
    drawn = np.zeros(50)
    for seed in range(400):
        best = Best(1, 10, CPU)
        for part in row.split(16):
            zero = torch.zeros_like(part)
            best.add(zero, chance(part, zero, seed), zero.float(), part)
        drawn[best.row[0].numpy()] += 1
    # Expected 80 each, standard deviation 8.
    assert drawn.sum() == 4000
    assert abs(drawn - 80).max() < 32
