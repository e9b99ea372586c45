"""Scores whose right values are known, and nulls that must come out as nothing."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch

from layerscope.probes.reading.rows import Plan, plan
from layerscope.probes.scoring.evaluate import Measurement


def planned(values, *, groups=None, types=None, classes=2, folds=5) -> Plan:
    """A plan over rows in order, in equal folds."""
    rows = len(values)
    return Plan(
        label="y",
        task="class" if classes else "number",
        index=np.arange(rows),
        bounds=tuple(np.linspace(0, rows, folds + 1).astype(int).tolist()),
        groups=np.arange(rows) if groups is None else groups,
        values=np.asarray(values),
        classes=tuple(range(classes)),
        types=types,
        notes=(),
    )


@pytest.mark.parametrize("gap", [1.0, 2.0, 3.0, 4.0])
def test_two_gaussians_are_told_apart_as_often_as_theory_says(gaussians, gap) -> None:
    """Accuracy is Phi(gap / 2): .6915, .8413, .9332, .9772."""
    x, y = gaussians(gap, 20_000)
    line = Measurement(planned(y.numpy()), solver="torch").score("x", x)
    expected = NormalDist().cdf(gap / 2)
    assert line["value"] == pytest.approx(expected, abs=0.01)
    assert line["ci_low"] < expected < line["ci_high"]
    half = 1.96 * np.sqrt(expected * (1 - expected) / 20_000)
    assert line["ci_high"] - line["ci_low"] == pytest.approx(2 * half, rel=0.15)
    assert line["baseline"] == pytest.approx(0.5, abs=0.01)


def test_both_solvers_score_the_same(gaussians) -> None:
    x, y = gaussians(2.0, 600, width=8)
    types = np.arange(600) % 150
    scores = [
        Measurement(planned(y.numpy(), types=types), solver=solver).score("x", x)
        for solver in ("torch", "sklearn")
    ]
    for name in ("value", "balanced", "control", "ci_low"):
        assert scores[0][name] == pytest.approx(scores[1][name], abs=0.01), name


def test_the_order_of_features_does_not_matter(gaussians) -> None:
    x, y = gaussians(2.0, 500, width=6)
    measurement = Measurement(planned(y.numpy()), solver="sklearn")
    moved = (x * torch.tensor([1.0, 50, 0.01, 3, 7, 1]) + 9).flip(1)
    assert measurement.score("x", moved) == pytest.approx(measurement.score("x", x))


def test_shuffled_labels_come_out_as_the_majority(gaussians) -> None:
    x, _ = gaussians(2.0, 2000, width=16)
    y = (np.random.default_rng(0).random(2000) < 0.3).astype(np.int64)
    line = Measurement(planned(y), solver="torch").score("x", x)
    assert line["ci_low"] < line["baseline"] < line["ci_high"]
    assert line["balanced"] == pytest.approx(0.5, abs=0.03)


def test_balanced_accuracy_does_not_reward_the_majority(gaussians) -> None:
    x, y = gaussians(0.5, 3000)
    y[:2400] = torch.where(torch.arange(2400) % 8 == 0, y[:2400], 0)
    line = Measurement(planned(y.numpy()), solver="sklearn").score("x", x * 0)
    assert line["value"] == pytest.approx(line["baseline"])
    assert line["balanced"] == pytest.approx(0.5)


def test_copies_in_one_group_do_not_help(make_store) -> None:
    """Random labels on 40 features: known by heart if copies straddle folds, else by luck."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 40, generator=generator).repeat_interleave(5, 0)
    y = torch.randint(0, 2, (60,), generator=generator).repeat_interleave(5).tolist()
    scores = {}
    for name, groups in (("whole", np.repeat(range(60), 5)), ("torn", np.arange(300))):
        store = make_store({"x": x}, group=groups, y=y)
        made = plan(store, "y")
        scores[name] = Measurement(made, solver="sklearn").score("x", store["x"][made.index])
    assert scores["torn"]["value"] > 0.9
    assert scores["whole"]["value"] < 0.7
    assert scores["whole"]["ci_low"] < 0.5 < scores["whole"]["ci_high"]


def zipf_plant(width: int) -> dict[str, float]:
    """2,000 Gaussian word types, Zipf tokens, 10 labels read off the type by a noisy linear rule."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((2000, width)).astype(np.float32)
    rule = vectors @ generator.standard_normal((width, 10))
    label = (rule / rule.std() + 0.3 * generator.standard_normal(rule.shape)).argmax(1)
    odds = 1 / np.arange(1, 2001)
    tokens = generator.choice(2000, 18_750, p=odds / odds.sum())
    types = np.unique(tokens, return_inverse=True)[1]
    measurement = Measurement(
        planned(label[tokens], types=types, classes=10), solver="torch", draws=50
    )
    return measurement.score("x", torch.from_numpy(vectors[tokens]))


def test_selectivity_falls_with_width() -> None:
    """The same information in more dimensions: a wide probe can learn any label of any word."""
    narrow, wide = zipf_plant(32), zipf_plant(256)
    assert narrow["control"] == pytest.approx(0.574, abs=0.05)
    assert wide["control"] == pytest.approx(0.809, abs=0.06)
    assert narrow["selectivity"] > 0.25
    assert wide["selectivity"] < narrow["selectivity"] - 0.1
    for line in (narrow, wide):
        assert line["ceiling"] == pytest.approx(0.972, abs=0.008)
        assert line["control"] < line["ceiling"]
        assert line["selectivity"] == pytest.approx(line["value"] - line["control"])


def test_one_hot_words_reach_the_ceiling_of_the_control() -> None:
    generator = np.random.default_rng(0)
    types = np.unique(generator.integers(0, 30, 3000), return_inverse=True)[1]
    types[:5] = np.arange(30, 35)  # five types that occur once
    x = torch.nn.functional.one_hot(torch.from_numpy(types)).float()
    line = Measurement(planned(types % 3, types=types, classes=3), solver="torch").score("x", x)
    assert line["control"] == pytest.approx(line["ceiling"], abs=0.002)
    assert line["ceiling"] < 1


def test_r2_is_the_share_of_variance_that_is_linear() -> None:
    """y = x + noise of variance 1/3: R2 is 3/4; on a shuffled target it is 0."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8000, 5, generator=generator)
    noise = torch.randn(8000, generator=generator) / 3**0.5
    y = (100 + 2 * (x[:, 2] + noise)).double().numpy()
    line = Measurement(planned(y, classes=0)).score("x", x)
    assert line["value"] == pytest.approx(0.75, abs=0.01)
    assert line["ci_low"] < 0.75 < line["ci_high"]
    assert (line["baseline"], "balanced" in line) == (0.0, False)
    null = Measurement(planned(np.random.default_rng(0).permutation(y), classes=0)).score("x", x)
    assert abs(null["value"]) < 0.01


def test_the_control_of_a_number_is_memory_of_words() -> None:
    generator = np.random.default_rng(0)
    types = np.unique(generator.integers(0, 20, 2000), return_inverse=True)[1]
    x = torch.nn.functional.one_hot(torch.from_numpy(types)).float()
    y = types + generator.standard_normal(2000)
    line = Measurement(planned(y, types=types, classes=0)).score("x", x)
    assert line["control"] == pytest.approx(1, abs=0.01) == line["ceiling"]


def test_ridge_is_scored_the_same_by_both_solvers() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 10, generator=generator)
    y = (x[:, 0] + torch.randn(300, generator=generator)).double().numpy()
    a, b = (
        Measurement(planned(y, classes=0), solver=solver).score("x", x)
        for solver in ("torch", "sklearn")
    )
    assert (a.pop("solver"), b.pop("solver")) == ("torch on cpu", "scikit-learn")
    assert a == pytest.approx(b, abs=1e-4)


def test_strong_penalties_are_chosen_where_rows_are_few() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 200, generator=generator)
    y = (x[:, 0] > 0).long().numpy()
    few = Measurement(planned(y), solver="sklearn").score("x", x)
    assert few["lambda"] >= 100
    x = torch.randn(5000, 3, generator=generator)
    many = Measurement(planned((x[:, 0] > 0).long().numpy()), solver="torch").score("x", x)
    assert many["lambda"] == 1


def test_nan_is_reported_with_site_and_row(gaussians) -> None:
    x, y = gaussians(2.0, 100)
    x[[31, 40], 2] = torch.tensor([float("nan"), float("inf")])
    made = planned(y.numpy())
    measurement = Measurement(made)
    with pytest.raises(ValueError, match=r"blocks\.1: activations of 2 of 100 rows.*at row 31 of"):
        measurement.score("blocks.1", x)


def test_bfloat16_rows_are_read(gaussians) -> None:
    x, y = gaussians(2.0, 400)
    made = Measurement(planned(y.numpy()), solver="sklearn")
    assert made.score("x", x.bfloat16())["value"] == pytest.approx(
        made.score("x", x)["value"], abs=0.01
    )


def test_same_seed_same_line_and_the_global_generator_rests(gaussians) -> None:
    x, y = gaussians(2.0, 300)
    types = np.arange(300) % 40
    before = torch.random.get_rng_state()
    lines = [
        Measurement(planned(y.numpy(), types=types), seed=seed).score("x", x) for seed in (0, 0, 1)
    ]
    assert lines[0] == lines[1]
    assert lines[0]["control"] != lines[2]["control"]
    assert torch.equal(before, torch.random.get_rng_state())
