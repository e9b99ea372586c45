"""Five features in two dimensions: a regular pentagon."""

from __future__ import annotations

import pytest
import torch

from layerscope.planted.superposition import superposition


def test_five_features_become_a_pentagon() -> None:
    for seed in (0, 1):
        model = superposition(seed=seed)
        assert float((model.gaps - 72).abs().max()) < 3
        lengths = model.directions.norm(dim=1)
        assert 1.10 < lengths.min() < lengths.max() < 1.17
        assert float(model.gaps.sum()) == pytest.approx(360, abs=1e-3)
        # A model that says nothing has the loss E x^2 = p / 3.
        assert model.loss < 0.2 * model.probability / 3


def test_hidden_states_are_the_sums_of_what_fires() -> None:
    model = superposition(steps=5)
    found = model.hidden(20_000, seed=3)
    torch.testing.assert_close(found.x, found.amplitudes @ model.directions)
    assert float(found.support.float().mean()) == pytest.approx(0.05, abs=0.003)
    assert float(found.amplitudes[found.support].mean()) == pytest.approx(0.5, abs=0.02)
    assert float(found.amplitudes.max()) <= 1


def test_seeds_make_the_same_and_others() -> None:
    one, same, other = (superposition(steps=20, seed=seed).directions for seed in (1, 1, 2))
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert float((one - other).abs().max()) > 0.1


def test_angles_need_two_dimensions() -> None:
    with pytest.raises(ValueError, match="angles need width 2, this model has 3"):
        superposition(width=3, steps=1).gaps  # noqa: B018
