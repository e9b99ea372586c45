"""The plants say what they claim."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.planted.trees import binary_plant, dependency_plant, random_heads


def test_distances_and_depths_are_exact_under_the_true_probe() -> None:
    plant = dependency_plant(10, seed=4)
    at = 0
    for heads in plant.heads:
        y = (plant.x[at : at + len(heads)] @ plant.probe.T).double()
        for word in range(len(heads)):
            path, above = [word], word
            while heads[above] >= 0:
                above = int(heads[above])
                path.append(above)
            assert y[word].square().sum().item() == pytest.approx(len(path) - 1, abs=1e-4)
            if heads[word] >= 0:
                step = (y[word] - y[heads[word]]).square().sum().item()
                assert step == pytest.approx(1, abs=1e-4)
        at += len(heads)
    assert at == len(plant.x)


def test_steps_of_the_binary_plant_are_its_heights() -> None:
    """Beneath the noise: in as many dimensions as carry the tree, steps are twice the heights."""
    plant = binary_plant(20, noise=0, seed=1)
    steps, heights, at = [], [], 0
    for own, unary in zip(plant.heights, plant.unary, strict=True):
        x = plant.x[at : at + len(unary)].double()
        steps += x.diff(dim=0).square().sum(1).tolist()
        heights += own
        at += len(unary)
    np.testing.assert_allclose(steps, 2 * np.array(heights), atol=0.006)
    values = torch.linalg.svdvals(plant.x.double() - plant.x.double().mean(0))
    assert int((values > 1e-3).sum()) <= plant.rank


def test_the_same_seed_gives_the_same_plant() -> None:
    assert torch.equal(dependency_plant(5, seed=7).x, dependency_plant(5, seed=7).x)
    assert torch.equal(binary_plant(5, seed=7).x, binary_plant(5, seed=7).x)
    assert not torch.equal(binary_plant(5, seed=7).x, binary_plant(5, seed=8).x)


def test_random_heads_are_trees() -> None:
    generator = np.random.default_rng(0)
    for words in (1, 2, 12):
        heads = random_heads(words, generator)
        assert (heads < 0).sum() == 1
        for word in range(words):
            at, steps = word, 0
            while heads[at] >= 0 and steps <= words:
                at, steps = int(heads[at]), steps + 1
            assert steps < words


def test_refused() -> None:
    with pytest.raises(ValueError, match="40 words have 39 edges, but there are 30 axes"):
        dependency_plant(5, longest=40)
    with pytest.raises(ValueError, match=r"6 \+ 5 \+ 60 axes do not fit into 64 dimensions"):
        binary_plant(5, noise=60)
