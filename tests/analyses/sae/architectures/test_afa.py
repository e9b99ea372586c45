"""top-AFA: how many latents it takes, by the authors' example and where the answer is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from layerscope.analyses.sae import activations
from layerscope.analyses.sae.architectures.afa import AFA, nearest_norm
from layerscope.analyses.sae.architectures.architecture import Weights


def test_the_authors_example() -> None:
    acts = torch.tensor([[5.0, 4, 3], [1, 1, 1], [1, 10, 2]])
    W_dec = torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    target = (acts @ W_dec).norm(dim=1)
    assert target.tolist() == pytest.approx([54.41, 15.0, 67.80], abs=0.005)
    codes = activations.afa(acts, W_dec.norm(dim=1), target)
    assert (codes > 0).sum(1).tolist() == [2, 2, 2]
    # By a_i |d_i|, not by a_i: of the second row the last two.
    assert codes.tolist() == [[0, 4, 3], [0, 1, 1], [0, 10, 2]]
    places, keep = nearest_norm(acts[None], W_dec.norm(dim=1)[None], target[None], start=1)
    assert keep.sum(-1).tolist() == [[2, 2, 2]]
    assert places[0, 0, :2].tolist() == [2, 1]


def orthonormal(rows: int = 500, d: int = 32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Directions [d, d], rows [rows, d], and how many directions each row is made of: 1 to 19."""
    own = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(d, d, generator=own, dtype=torch.float64)).Q
    count = torch.randint(1, 20, (rows,), generator=own)
    ranked = torch.rand(rows, d, generator=own).argsort(1)
    size = 0.5 + torch.rand(rows, d, generator=own, dtype=torch.float64)
    return directions, (size * (ranked < count[:, None])) @ directions, count


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_of_orthonormal_directions_exactly_those_in_the_row(dtype: torch.dtype) -> None:
    directions, x, count = orthonormal()
    pre, norms = (x @ directions.T).to(dtype), torch.ones(32, dtype=dtype)
    target = x.norm(dim=1).to(dtype)
    codes = activations.afa(pre, norms, target)
    tiny = 1e-6 if dtype == torch.float32 else 1e-12
    assert (codes > tiny).sum(1).tolist() == count.tolist()
    assert (codes.norm(dim=1) - target).abs().max() < 1e-5
    if dtype == torch.float64:
        assert (codes > 0).sum(1).tolist() == count.tolist()


@pytest.mark.parametrize("sparse", [True, False])
def test_a_row_without_positive_codes_has_a_gradient(
    sparse: bool, make_weights: Any, make_moment: Any
) -> None:
    weights = make_weights(group=1, latents=20)
    with torch.no_grad():
        weights.b_enc.fill_(-100.0)
    x = torch.randn(1, 8, 6, generator=torch.Generator().manual_seed(3))
    loss = AFA(sparse=sparse).loss(weights, x, x, make_moment(1, 20))
    loss.total.sum().backward()
    assert float(loss.l0) == 0
    # The norm of no codes is 0, where a root has no slope.
    for tensor in weights.named().values():
        assert bool(torch.isfinite(tensor.grad).all())
    assert not weights.encoder.grad.any()


@pytest.mark.parametrize("sparse", [True, False])
def test_training_and_use_select_the_same(
    sparse: bool, make_weights: Any, make_moment: Any
) -> None:
    weights = make_weights(group=2, latents=90)
    with torch.no_grad():
        weights.decoder.mul_(1 + torch.rand(2, 90, 1, generator=torch.Generator().manual_seed(4)))
    x = 4 * torch.randn(1, 60, 6, generator=torch.Generator().manual_seed(3))
    loss = AFA(sparse=sparse).loss(weights, x, x, make_moment(2, 90))
    for member in range(2):
        sae = AFA().export(weights, member, make_moment(2, 90))
        codes = sae.encode(x[0])
        assert loss.l0[member].item() == pytest.approx((codes > 0).sum(1).float().mean().item())
        assert torch.equal(loss.active[member], (codes > 0).any(0))
        error = (x[0] - sae.decode(codes)).square().sum(1).mean()
        assert loss.error[member].item() == pytest.approx(error.item(), rel=1e-4)


@pytest.mark.parametrize("start", [1, 3, 40, 200])
def test_how_many_are_looked_at_first_changes_nothing(start: int) -> None:
    own = torch.Generator().manual_seed(0)
    pre = torch.randn(2, 30, 200, generator=own) * torch.rand(2, 30, 1, generator=own)
    norms = 0.5 + torch.rand(2, 200, generator=own)
    target = 20 * torch.rand(2, 30, generator=own) ** 2
    places, keep = nearest_norm(pre, norms, target, start)
    found = torch.zeros_like(pre).scatter_add_(-1, places, keep * pre.gather(-1, places).relu())
    for member in range(2):
        wanted = activations.afa(pre[member], norms[member], target[member])
        assert torch.equal(found[member], wanted)
    assert keep.sum(-1).min() == 1
    # Some cannot reach their norm, and take all there is.
    assert keep.sum(-1).max() > 60


def test_never_all_latents_as_in_the_authors_code() -> None:
    codes = activations.afa(torch.ones(1, 3), torch.ones(3), torch.tensor([100.0]))
    assert (codes > 0).sum() == 2


def test_its_extra_term_vanishes_where_the_norms_agree(make_moment: Any) -> None:
    directions, x, _ = orthonormal(100)
    identity = directions[None].float()
    weights = Weights(
        identity.clone().requires_grad_(),
        torch.zeros(1, 32, requires_grad=True),
        identity.clone().requires_grad_(),
        torch.zeros(1, 32, requires_grad=True),
    )
    rows = x.float()[None]
    loss = AFA(afa=(1.0,)).loss(weights, rows, rows, make_moment(1, 32))
    loss.total.sum().backward()
    assert loss.parts["afa"].item() < 1e-7
    assert loss.error.item() < 1e-7
    assert weights.encoder.grad.isfinite().all()


def test_a_row_without_codes_has_a_finite_gradient(make_weights: Any, make_moment: Any) -> None:
    weights = make_weights(group=1)
    with torch.no_grad():
        weights.b_enc.fill_(-1e3)
    x = torch.randn(1, 9, 6, generator=torch.Generator().manual_seed(0))
    loss = AFA().loss(weights, x, x, make_moment(1, 24))
    loss.total.sum().backward()
    assert loss.l0.item() == 0
    assert weights.encoder.grad.abs().max() == 0
    assert weights.b_dec.grad.isfinite().all()


def test_as_in_the_paper_the_two_targets_differ(make_weights: Any, make_moment: Any) -> None:
    weights = make_weights(group=1)
    with torch.no_grad():
        weights.b_enc.zero_()
        weights.b_dec.fill_(3.0)
    x = torch.randn(1, 40, 6, generator=torch.Generator().manual_seed(0))
    ours = AFA(afa=(1.0,)).loss(weights, x, x, make_moment(1, 24))
    paper = AFA(afa=(1.0,), paper_exact=True).loss(weights, x, x, make_moment(1, 24))
    assert ours.l0.item() == paper.l0.item()
    assert ours.parts["afa"].item() != pytest.approx(paper.parts["afa"].item(), rel=0.1)
    with torch.no_grad():
        weights.b_enc.fill_(1.0)
    unused = AFA(afa=(1.0,), paper_exact=True).loss(weights, x, x, make_moment(1, 24))
    assert unused.total.item() == paper.total.item()
    sae = AFA(paper_exact=True).export(weights, 0, make_moment(1, 24))
    assert sae.b_enc.abs().max() == 0
