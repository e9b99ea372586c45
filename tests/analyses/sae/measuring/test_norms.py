"""Norms of codes, and the coherence that their gap implies."""

from __future__ import annotations

import pytest
import torch

from layerscope.analyses.sae.measuring.dictionary import geometry
from layerscope.analyses.sae.measuring.norms import cone, elbo, norms
from layerscope.planted.known_norms import notebook_example, unit_pair, varied_supports


def of(known, *, bias: bool = False):
    lengths = known.directions.norm(dim=1)
    zero = torch.zeros(known.directions.shape[1], dtype=torch.float64)
    return norms(known.codes @ known.directions, known.codes, lengths, zero, bias=bias)


def test_orthonormal_directions_leave_no_gap() -> None:
    found = of(varied_supports(500))
    torch.testing.assert_close(found.dense, found.sparse, rtol=0, atol=1e-12)
    value = elbo(found, found.active)
    assert float(value[found.active > 1].max()) < 1e-12
    assert torch.isnan(value[found.active == 1]).all()


@pytest.mark.parametrize("cosine", [0.3, 0.9, -0.4])
@pytest.mark.parametrize("signs", [(1.0, 1.0), (1.0, -1.0)])
def test_one_pair_gives_its_cosine(cosine, signs) -> None:
    found = of(unit_pair(cosine, signs=signs))
    assert float(found.dense) ** 2 == pytest.approx(2 + 2 * signs[0] * signs[1] * cosine)
    assert float(elbo(found, 2)) == pytest.approx(abs(cosine), abs=1e-12)
    assert float(elbo(found, found.active)) == pytest.approx(abs(cosine), abs=1e-12)


def test_the_bounds_are_in_order() -> None:
    """eLBO(h) <= eLBO(k) <= largest |cos|, where z is what the latents add up to."""
    for seed in range(500):
        drawn = torch.Generator().manual_seed(seed)
        directions = torch.randn(24, 12, generator=drawn, dtype=torch.float64)
        directions /= directions.norm(dim=1, keepdim=True)
        codes = torch.rand(4, 24, generator=drawn, dtype=torch.float64)
        codes *= torch.rand(4, 24, generator=drawn) < 0.25
        z = codes @ directions
        found = norms(z, codes, torch.ones(24).double(), torch.zeros(12).double())
        some = found.active > 1
        loose, sharp = elbo(found, 24)[some], elbo(found, found.active)[some]
        assert (loose <= sharp + 1e-12).all()
        assert (sharp <= geometry(directions).coherence.max() + 1e-9).all()


def test_the_worked_example_of_the_notebook() -> None:
    found = of(notebook_example())
    assert found.dense.tolist() == pytest.approx([54.41, 15.0, 67.80], abs=5e-3)
    lengths = torch.tensor([5.0, 25.0, 61.0], dtype=torch.float64)
    by_hand = (torch.tensor([[25.0, 16, 9], [1, 1, 1], [1, 100, 4]]).double() @ lengths).sqrt()
    torch.testing.assert_close(found.sparse, by_hand)


def test_the_bias_as_one_more_latent() -> None:
    y, codes = torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])
    b_dec, lengths = torch.tensor([0.0, 1.0]), torch.tensor([2.0, 1.0])
    plain = norms(y, codes, lengths, b_dec)
    assert (float(plain.dense), float(plain.sparse), int(plain.active)) == (18**0.5, 4.0, 1)
    bias = norms(y, codes, lengths, b_dec, bias=True)
    assert (float(bias.dense), float(bias.sparse), int(bias.active)) == (5.0, 17**0.5, 2)
    assert float(elbo(bias, 3)) == pytest.approx(8 / 17 / 2)


def test_points_of_a_gap_lie_on_its_cone() -> None:
    dense = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for gap in (0.25, 0.5):
        for sparse in cone(dense, gap):
            relative = (dense.square() - sparse.square()).abs() / sparse.square()
            torch.testing.assert_close(relative, torch.full_like(dense, gap))
    low, high = cone(dense, 1.0)
    torch.testing.assert_close(low, dense / 2**0.5)
    assert torch.isinf(high).all()
