"""What an SAE has to beat: directions at random, and as many dimensions without sparseness."""

from __future__ import annotations

import torch
from torch import Tensor

from layerscope.analyses.sae.measuring.row_moments import Moments
from layerscope.analyses.sae.sae import SAE


def random_dictionary(moments: Moments, x: Tensor, y: Tensor, like: SAE, k: int, seed: int) -> SAE:
    """A TopK SAE of as many latents with random unit directions, encoder and decoder tied.

    The codes have the one scale that makes the error on `x` smallest, since random directions
    overlap and would add up to too much. With another target, directions are written through the
    best linear map.

    Args:
        moments: Of the rows.
        x: Some rows, [rows, d_in].
        y: What belongs to them, [rows, d_out].
        like: What it is compared with.
        k: Latents for each row.
        seed: Of the directions.
    """
    drawn = torch.Generator().manual_seed(seed)
    directions = torch.randn(like.n_latents, like.d_in, generator=drawn, dtype=torch.float64)
    directions = _unit(directions).to(moments.mean_x)
    written = _unit(directions @ _linear_map(moments))
    made = _affine(moments, directions.T, written, activation="topk", k=k, like=like)
    flat = (made.decode(made.encode(x)) - made.b_dec).double()
    centred = y.double() - moments.mean_y
    gain = float((flat * centred).sum() / flat.square().sum().clamp_min(1e-300))
    # Smaller than nothing would turn the codes around; then the mean alone is the best.
    return _affine(
        moments, max(gain, 0.0) * directions.T, written, activation="topk", k=k, like=like
    )


def linear(moments: Moments, rank: int, like: SAE) -> SAE:
    """PCA with `rank` components as an SAE: each component is two latents, one for each sign.

    With another target than the site itself, the best linear map of that rank (reduced-rank
    regression, whose special case PCA is).

    Args:
        moments: Of the rows.
        rank: Components, which is the L0 as well.
        like: Names the site.
    """
    mapped = _linear_map(moments)
    axes = _axes(moments, mapped)[1][:, : max(1, rank)]
    encoder = mapped @ axes
    return _affine(
        moments,
        torch.cat([encoder, -encoder], dim=1),
        torch.cat([axes, -axes], dim=1).T,
        activation="relu",
        k=None,
        like=like,
    )


def explained_by_rank(moments: Moments) -> Tensor:
    """[d_out] explained variance of the best linear map of rank 1, 2, ...; PCA for an SAE."""
    values = _axes(moments, _linear_map(moments))[0].clamp_min(0)
    return values.cumsum(0) / moments.spread


def rank_for(moments: Moments, explained: float) -> float:
    """The rank at which a linear map explains as much; NaN where none does, 0 where nothing is."""
    if explained <= 0:
        return 0.0
    reached = torch.nonzero(explained_by_rank(moments) >= explained - 1e-12)
    return float(reached[0] + 1) if len(reached) else float("nan")


def _linear_map(moments: Moments) -> Tensor:
    """[d_in, d_out] least-squares map of centred x to centred y; of x to itself, the identity."""
    if moments.cov_xy is moments.cov_xx:
        return torch.eye(len(moments.mean_x), dtype=torch.float64, device=moments.mean_x.device)
    # The pseudo-inverse, for dimensions of x may depend on each other.
    found: Tensor = torch.linalg.pinv(moments.cov_xx, hermitian=True) @ moments.cov_xy
    return found


def _axes(moments: Moments, mapped: Tensor) -> tuple[Tensor, Tensor]:
    """Variances and directions [d_out, d_out] of what the map predicts, largest first."""
    fitted = mapped.T @ moments.cov_xx @ mapped
    values, vectors = torch.linalg.eigh((fitted + fitted.T) / 2)
    return values.flip(0), vectors.flip(1)


def _affine(
    moments: Moments, encoder: Tensor, decoder: Tensor, *, activation: str, k: int | None, like: SAE
) -> SAE:
    """Centres x, and adds the mean of y; in the precision of `like`."""
    made = SAE(
        *(
            tensor.to(like.W_enc)
            for tensor in (encoder, -moments.mean_x @ encoder, decoder, moments.mean_y)
        ),
        activation=activation,
        k=None if k is None else min(max(1, k), decoder.shape[0]),
        subtract_b_dec=False,
        about={"site": like.site, "target": like.target},
    )
    return made


def _unit(x: Tensor) -> Tensor:
    found: Tensor = x / x.norm(dim=1, keepdim=True).clamp_min(1e-300)
    return found
