"""The child never fires without its parent."""

from __future__ import annotations

import pytest
import torch

from layerscope.planted.absorbed import CHILD, PARENT, absorbed


def test_child_fires_only_with_its_parent() -> None:
    found = absorbed(50_000)
    fires = found.support
    assert not bool((fires[:, CHILD] & ~fires[:, PARENT]).any())
    given = fires[fires[:, PARENT], CHILD].float().mean()
    assert float(given) == pytest.approx(0.4, abs=0.015)
    share = fires.float().mean(0)
    assert float((share - found.probability).abs().max()) < 0.01
    assert found.probability[[PARENT, CHILD, 2]].tolist() == pytest.approx([0.3, 0.12, 0.08])
    assert found.l0 == pytest.approx(1.22)


def test_amplitudes_are_read_off_exactly() -> None:
    found = absorbed(2000, seed=1)
    assert set(found.amplitudes.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(found.directions @ found.directions.T, torch.eye(12))
    torch.testing.assert_close(found.x @ found.directions.T, found.amplitudes)
    torch.testing.assert_close(found.x, absorbed(2000, seed=1).x, rtol=0, atol=0)
    assert float((found.x - absorbed(2000, seed=2).x).abs().max()) > 0.1


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(ValueError, match="1 features: a parent and its child are 2"):
        absorbed(10, features=1)
    with pytest.raises(ValueError, match="21 orthonormal directions in 20 dimensions"):
        absorbed(10, features=21)
