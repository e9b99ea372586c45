"""Folding: the SAE on raw rows has the codes of the one on scaled rows, and its reconstruction."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from layerscope.analyses.sae.rows.folding import fold, fold_decoder_norms
from layerscope.analyses.sae.rows.scaling import KINDS, Affine, fit, side_by_side
from layerscope.analyses.sae.sae import SAE

D, F = 10, 30
KINDS_OF_SAE = ("relu", "topk", "jumprelu", "gated")


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(width: int = D, seed: int = 0) -> Tensor:
    mixed = torch.randn(width, width, generator=random(seed))
    return torch.randn(500, width, generator=random(seed + 1)) @ mixed + 3


def sae(activation: str, d_in: int = D, d_out: int = D, dtype: Any = None, **given: Any) -> SAE:
    made = random(7)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=made).to(dtype or torch.float32)

    options: dict[str, Any] = {
        "relu": {},
        "afa": {},
        "topk": {"k": 4},
        "jumprelu": {"threshold": draw(F).abs()},
        "gated": {"r_mag": draw(F) * 0.3, "b_mag": draw(F)},
    }[activation]
    tensors = draw(d_in, F), draw(F), draw(F, d_out) * draw(F).exp()[:, None], draw(d_out)
    return SAE(*tensors, activation=activation, **options, **given)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", KINDS_OF_SAE)
@pytest.mark.parametrize("subtract", [True, False])
def test_codes_and_reconstructions_are_those_of_scaled_rows(
    kind: str, activation: str, subtract: bool
) -> None:
    x, trained = rows(), sae(activation, subtract_b_dec=subtract)
    units = fit(kind, x)
    folded = fold(trained, units)
    codes = trained.encode(units(x))
    assert (codes > 0).any(1).float().mean() > 0.9
    assert relative(folded.encode(x), codes) < 1e-6
    assert relative(folded(x), units.inverse(trained(units(x)))) < 1e-5
    assert folded.subtract_b_dec is subtract
    assert ((folded.encode(x) > 0) == (codes > 0)).float().mean() > 0.9999


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", KINDS_OF_SAE)
def test_in_float64_folding_is_exact(kind: str, activation: str) -> None:
    x, trained = rows().double(), sae(activation, dtype=torch.float64)
    units = fit(kind, x)
    units = Affine(units.centre.double(), units.scale.double())
    folded = fold(trained, units)
    torch.testing.assert_close(folded.encode(x), trained.encode(units(x)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(folded(x), units.inverse(trained(units(x))), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kinds", [("scale", "per_dimension"), ("whiten", "scale")])
@pytest.mark.parametrize("skip", [True, False])
def test_transcoders_have_units_at_both_ends(kinds: tuple[str, str], skip: bool) -> None:
    x, y = rows(), rows(7, seed=3)
    path = torch.randn(D, 7, generator=random(1)) if skip else None
    trained = sae("jumprelu", d_out=7, subtract_b_dec=False, W_skip=path)
    inputs, outputs = fit(kinds[0], x), fit(kinds[1], y)
    folded = fold(trained, inputs, outputs)
    assert relative(folded.encode(x), trained.encode(inputs(x))) < 1e-6
    assert relative(folded(x), outputs.inverse(trained(inputs(x)))) < 1e-5


@pytest.mark.parametrize("skip", [True, False])
def test_a_subtracted_bias_moves_into_the_encoder_where_units_differ(skip: bool) -> None:
    x, y = rows(), rows(seed=3)
    path = torch.randn(D, D, generator=random(1)) if skip else None
    trained = sae("gated", W_skip=path)
    inputs, outputs = fit("scale", x), fit("scale", y)
    folded = fold(trained, inputs, outputs)
    assert not folded.subtract_b_dec
    assert relative(folded.encode(x), trained.encode(inputs(x))) < 1e-6
    assert relative(folded(x), outputs.inverse(trained(inputs(x)))) < 1e-5


def test_a_skip_path_with_a_subtracted_bias_in_the_same_units() -> None:
    """The shift of the skip path belongs to the output's bias alone, so the encoder keeps its own."""
    x, trained = rows(), sae("relu", W_skip=torch.randn(D, D, generator=random(1)))
    units = fit("scale", x)
    folded = fold(trained, units)
    assert relative(folded.encode(x), trained.encode(units(x))) < 1e-6
    assert relative(folded(x), units.inverse(trained(units(x)))) < 1e-5


def test_crosscoders_fold_each_part() -> None:
    x = torch.cat([rows(4), rows(6, seed=2) * 30], 1)
    units = side_by_side([fit("scale", x[:, :4]), fit("scale", x[:, 4:])])
    trained = sae("relu", subtract_b_dec=False, parts=(4, 6))
    folded = fold(trained, units)
    assert folded.parts == (4, 6)
    assert relative(folded.encode(x), trained.encode(units(x))) < 1e-6
    assert relative(folded(x), units.inverse(trained(units(x)))) < 1e-5


@pytest.mark.parametrize("normalise", ["layer_norm", "constant_norm"])
def test_what_is_normalised_per_row_stays_outside(normalise: str) -> None:
    """The units are those of the normalised rows."""
    x, trained = rows(), sae("relu")
    outer = sae("relu", normalise=normalise)
    normal, shift, scale = outer._normalised(x)
    units = fit("scale", normal)
    folded = fold(outer, units)
    assert relative(folded.encode(x), trained.encode(units(normal))) < 1e-6
    wanted = units.inverse(trained(units(normal))) * scale + shift
    assert relative(folded(x), wanted) < 1e-5


def test_afa_keeps_its_choice_under_one_factor_only() -> None:
    x, trained = rows(), sae("afa")
    units = fit("scale", x)
    assert relative(fold(trained, units).encode(x), trained.encode(units(x))) < 1e-6
    with pytest.raises(ValueError, match=r"afa decides by the norm .* scale \[10\]"):
        fold(trained, fit("per_dimension", x))
    with pytest.raises(ValueError, match="subtract_b_dec=False"):
        fold(sae("afa", subtract_b_dec=False), units)


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "gated", "afa"])
def test_decoder_norms_go_into_the_codes(activation: str) -> None:
    x, trained = rows(), sae(activation)
    folded = fold_decoder_norms(trained)
    norms = trained.W_dec.norm(dim=1)
    torch.testing.assert_close(folded.W_dec.norm(dim=1), torch.ones(F), rtol=1e-6, atol=1e-6)
    assert relative(folded.encode(x), trained.encode(x) * norms) < 1e-6
    assert relative(folded(x), trained(x)) < 1e-5


def test_a_topk_that_ranks_by_norm_keeps_its_choice() -> None:
    """The forward pass of SAELens' rescale_acts_by_decoder_norm, written out."""
    x, trained = rows(), sae("topk")
    norms = trained.W_dec.norm(dim=1)
    ranked = (trained.pre(x) * norms).relu()
    kept = ranked * (ranked >= ranked.sort(dim=1, descending=True).values[:, 3:4])
    folded = fold_decoder_norms(trained, ranked_by_norm=True)
    assert relative(folded.encode(x), kept) < 1e-6
    assert relative(folded(x), (kept / norms) @ trained.W_dec + trained.b_dec) < 1e-5


def test_a_topk_that_ranks_by_codes_is_refused_unless_its_norms_are_equal() -> None:
    trained = sae("topk")
    with pytest.raises(ValueError, match="would choose others"):
        fold_decoder_norms(trained)
    unit = fold_decoder_norms(trained, ranked_by_norm=True)
    x = rows()
    torch.testing.assert_close(fold_decoder_norms(unit)(x), unit(x))


def test_rows_of_norm_0_stay() -> None:
    trained = sae("relu")
    trained.W_dec.data[5] = 0
    folded = fold_decoder_norms(trained)
    assert all(p.isfinite().all() for p in folded.parameters())
    assert folded.W_dec[5].abs().max() == 0
    assert relative(folded(rows()), trained(rows())) < 1e-5


def test_the_one_that_was_trained_is_not_changed_and_nothing_is_lost() -> None:
    trained = sae("jumprelu", about={"site": "blocks.1.resid_post"})
    before = {name: p.clone() for name, p in trained.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folded = fold_decoder_norms(fold(trained, fit("whiten", rows())))
    for name, tensor in trained.named_parameters():
        assert torch.equal(tensor, before[name])
    assert folded.about == {"site": "blocks.1.resid_post"}
    assert folded.W_enc.dtype == torch.float32
