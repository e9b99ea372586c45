"""Plants whose numbers are set exactly: what their docstrings promise."""

from __future__ import annotations

import pytest
import torch

from layerscope.hooks.capture import capture
from layerscope.planted.clouds import exactly_white
from layerscope.planted.known_heads import HEADS, POSITIONS, attention, known_heads
from layerscope.planted.moved_axes import moved_axes
from layerscope.planted.used_label import corners, mirrored_walks


def test_white_rows_have_no_sampling_error() -> None:
    x = exactly_white(50, 7, seed=3)
    torch.testing.assert_close(x.mean(0), torch.zeros(7, dtype=x.dtype), atol=1e-12, rtol=0)
    torch.testing.assert_close(x.T.cov(), torch.eye(7, dtype=x.dtype), atol=1e-12, rtol=0)
    assert not torch.allclose(x, exactly_white(50, 7, seed=4))
    with pytest.raises(ValueError, match="7 rows cannot be white in 7 features"):
        exactly_white(7, 7)


def test_heads_attend_where_they_were_told_to() -> None:
    before = torch.get_rng_state()
    model = known_heads()
    assert torch.equal(before, torch.get_rng_state())
    with torch.no_grad(), capture(model, "blocks.0.pattern") as seen:
        model(
            input_ids=torch.randint(8, (2, POSITIONS), generator=torch.Generator().manual_seed(0))
        )
    for head, name in enumerate(HEADS):
        for pattern in seen["blocks.0.pattern"][:, head]:
            torch.testing.assert_close(pattern, attention(name), atol=1e-6, rtol=0)


def test_moved_axes_have_the_kernels_of_their_projections() -> None:
    x = torch.eye(8)
    for by, size in ((0, 1.0), (2, 2.0)):
        net = moved_axes(by)
        states = net[0](x)
        axes = torch.zeros(8)
        axes[by : by + 4] = size**2
        torch.testing.assert_close(states @ states.T, axes.diag())
        rows = [torch.autograd.grad(net(row).sum(), list(net.parameters())) for row in x]
        jacobian = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
        torch.testing.assert_close(jacobian @ jacobian.T, 4 * x + axes.diag())
    with pytest.raises(ValueError, match="by=5: 4 of 8 axes"):
        moved_axes(5)


def test_mirrored_texts_have_labels_of_no_mean_and_no_covariance() -> None:
    signs = corners()[mirrored_walks(5, 9, seed=2).flatten(0, 1)]  # [texts, rows, 3]
    used, idle, third = signs.flatten(0, 1).T
    for x in (used, idle, used * idle, used * third, idle * third):
        assert float(x.sum()) == 0
    assert bool((signs[:, :, 0] == signs[:, :1, 0]).all())  # the used one never changes in a text
