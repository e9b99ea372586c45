"""Random weights in a foreign layout, and the comparison with a foreign forward pass in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

D, F, N = 12, 30, 40
"""Width, latents and rows of all fixtures."""


@pytest.fixture
def draw() -> Callable[..., np.ndarray]:
    """``draw(shape...)``: normal numbers in float64 that float32 holds exactly, seeded by the test."""
    rng = np.random.default_rng(0)

    def make(*shape: int, scale: float = 0.5) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32).astype(np.float64)

    return make


@pytest.fixture
def x(draw: Callable[..., np.ndarray]) -> np.ndarray:
    return draw(N, D, scale=1.0) + draw(D)


@pytest.fixture
def torched() -> Callable[..., Any]:
    """Arrays as float32 tensors, in dictionaries too."""

    def make(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: make(one) for key, one in value.items()}
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value.astype(np.float32)).contiguous()
        return value

    return make


@pytest.fixture
def agrees() -> Callable[..., None]:
    """Codes and reconstruction of an SAE are those of a foreign forward pass, at 1e-5."""

    def check(sae: Any, x: np.ndarray, f: np.ndarray, x_hat: np.ndarray) -> None:
        rows = torch.from_numpy(x.astype(np.float32))
        assert 0.01 < (f != 0).mean() < 0.9
        assert sae.W_enc.dtype == torch.float32
        np.testing.assert_allclose(sae.encode(rows).numpy(), f, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(sae(rows).numpy(), x_hat, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(sae.encode(rows).numpy() != 0, f != 0)

    return check


@pytest.fixture
def top() -> Callable[[np.ndarray, int], np.ndarray]:
    """The k largest of each row, where positive."""

    def keep(pre: np.ndarray, k: int) -> np.ndarray:
        least = np.sort(pre, axis=-1)[..., -k][..., None]
        return np.maximum(pre, 0) * (pre >= least)

    return keep
