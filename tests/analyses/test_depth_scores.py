"""Single numbers for a profile over layers."""

from __future__ import annotations

import math

import pytest

from layerscope.analyses.depth.depth_scores import (
    depth_score,
    falling_layer,
    sharing_layer,
    turning_layer,
)


def test_depth_score_of_one_layer_and_of_a_flat_profile() -> None:
    for layer in range(6):
        assert depth_score([float(i == layer) for i in range(6)]) == layer
    assert depth_score([0.3] * 6) == pytest.approx(2.5)
    assert depth_score([1, 0, 0, 3]) == pytest.approx(2.25)
    assert depth_score([2, 0, 0, 6]) == depth_score([1, 0, 0, 3])
    assert math.isnan(depth_score([0.0, 0.0]))
    with pytest.raises(ValueError, match="one non-negative number for each layer"):
        depth_score([1.0, -0.1])
    with pytest.raises(ValueError, match="one non-negative number for each layer"):
        depth_score([1.0, math.nan])


def test_the_last_crossing_counts() -> None:
    assert turning_layer([0.1, -0.2, 0.0, -0.1, 0.3, 0.2]) == 4
    assert turning_layer([-0.1, 0.0]) == 1
    assert turning_layer([0.1, 0.2]) is None
    assert turning_layer([0.1, -0.2]) is None


def test_first_layers_past_a_threshold() -> None:
    assert falling_layer([8, 9, 4.5, 4.4, 1]) == 3
    assert falling_layer([1.0, 1.0]) is None
    assert sharing_layer([0.0, 0.2, 0.21, 0.1]) == 2
    assert sharing_layer([0.0, 0.2]) is None
