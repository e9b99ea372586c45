"""One pass over the rows for every number that rows, codes and reconstructions give; float64 sums.

Sums are kept for up to `BLOCKS` blocks of whole texts, from which intervals are resampled; memory
does not grow with the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.sae.measuring.norms import Norms, elbo, of_sums
from layerscope.probes.scoring.intervals import GroupBootstrap

if TYPE_CHECKING:
    from layerscope.analyses.sae.sae import SAE

Floats = NDArray[np.float64]
BLOCKS = 512
"""Texts beyond this number share sums; resampling so many blocks gives the same intervals."""
BITS = 7
"""Of one activation's value in the description length, as in arXiv 2503.24277."""
SUMS = (
    "rows", "seen", "spread", "active",
    "y2", "c2", "e2", "e", "nmse", "ratio", "cosine", "length", "yr", "r2", "l0", "l1",
    "gap", "gap_bias", "under", "h", "pairs", "k", "pairs_bias", "h_bias", "k_bias",
)  # fmt: skip
"""Sums over rows. Counts of rows: all, those with y not 0, y not the mean, codes not empty; pairs: with
two active terms."""


class Accumulator:
    """Sums of reconstruction, sparsity and norms over rows; `values` turns them into measures.

    Args:
        mean: Of y over all rows to come, [d_out]; ratios around the mean need it beforehand.
        lengths: Norms of the decoder's rows, [latents].
        b_dec: [d_out].
        groups: How many texts there are; 1 where intervals are not wanted.
    """

    def __init__(self, mean: Tensor, lengths: Tensor, b_dec: Tensor, groups: int = 1) -> None:
        self.mean = mean.double()
        self.lengths, self.b_dec = lengths, b_dec
        self.blocks = max(1, min(groups, BLOCKS))
        latents, device = len(lengths), mean.device
        wide = {"dtype": torch.float64, "device": device}
        self.sums = torch.zeros(self.blocks, len(SUMS), **wide)  # type: ignore[call-overload]
        self.y = torch.zeros(self.blocks, len(mean), **wide)  # type: ignore[call-overload]
        self.e = torch.zeros_like(self.y)
        self.fired = torch.zeros(latents, dtype=torch.int64, device=device)
        self.total = torch.zeros(latents, **wide)  # type: ignore[call-overload]
        self.most = dict.fromkeys(("h", "k", "h_bias", "k_bias"), 0.0)

    @classmethod
    def of(cls, sae: SAE, mean: Tensor, groups: int = 1) -> Accumulator:
        """For the codes and reconstructions of `sae`."""
        return cls(mean, sae.W_dec.norm(dim=1), sae.b_dec, groups)

    @property
    def rows(self) -> int:
        return int(self.sums[:, 0].sum())

    @property
    def density(self) -> Tensor:
        """[latents] share of rows at which each is not zero."""
        return self.fired.double() / max(1, self.rows)

    @property
    def mean_active(self) -> Tensor:
        """[latents] mean of each where it is not zero; NaN where it never was."""
        found: Tensor = self.total / self.fired
        return found

    @torch.no_grad()
    def add(
        self, y: Tensor, codes: Tensor, reconstruction: Tensor, groups: Tensor | None = None
    ) -> None:
        """Some rows.

        Args:
            y: What was to be reconstructed, [rows, d_out].
            codes: [rows, latents].
            reconstruction: [rows, d_out].
            groups: [rows], the number of each row's text; None: all of one.
        """
        y, rebuilt = y.double(), reconstruction.double()
        error, centred = y - rebuilt, y - self.mean
        l0, l1, squared = self._codes(codes)
        own = of_sums(y, squared, l0, self.b_dec, bias=False)
        with_bias = of_sums(y, squared, l0, self.b_dec, bias=True)
        found = _reconstruction(y, centred, rebuilt, error) | {"l0": l0, "l1": l1}
        found |= self._norms(own, with_bias, codes.shape[1])
        block = torch.zeros_like(l0) if groups is None else groups % self.blocks
        rows = torch.stack([found[name].double() for name in SUMS], dim=1)
        self.sums.index_add_(0, block, rows)
        self.y.index_add_(0, block, centred)
        self.e.index_add_(0, block, error)

    def _codes(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[rows] number, sum and weighted sum of squares of the codes, from those that are not 0."""
        row, latent = codes.nonzero(as_tuple=True)
        values = codes[row, latent].double()
        squares = (values * self.lengths.double()[latent]).square()
        count, latents = len(codes), codes.shape[1]
        self.fired += torch.bincount(latent, minlength=latents)
        self.total += torch.bincount(latent, values, latents)
        return (
            torch.bincount(row, minlength=count),
            torch.bincount(row, values, count),
            torch.bincount(row, squares, count),
        )

    def _norms(self, own: Norms, with_bias: Norms, latents: int) -> dict[str, Tensor]:
        sides = {"": (own, latents), "_bias": (with_bias, latents + 1)}
        found = {"active": own.sparse > 0, "under": (own.sparse < own.dense) & (own.sparse > 0)}
        for side, (one, terms) in sides.items():
            found[f"gap{side}"] = _over((one.sparse - one.dense).abs(), one.dense)
            found[f"pairs{side}"] = (one.active > 1) & (one.sparse > 0)
            for name, count in (("h", terms), ("k", one.active)):
                value = elbo(one, count).where(found[f"pairs{side}"], 0.0)
                found[f"{name}{side}"] = value
                if len(value):
                    most = self.most[f"{name}{side}"]
                    self.most[f"{name}{side}"] = max(most, float(value.max()))
        return found

    def merge(self, other: Accumulator) -> None:
        """Add what another one has seen of the same SAE; it must be over the same texts and mean."""
        if other.sums.shape != self.sums.shape or not torch.equal(other.mean, self.mean):
            raise ValueError("accumulators with other texts, or around another mean, do not merge")
        for mine, theirs in (
            (self.sums, other.sums), (self.y, other.y), (self.e, other.e),
            (self.fired, other.fired), (self.total, other.total),
        ):  # fmt: skip
            mine += theirs.to(mine.device)
        self.most = {name: max(most, other.most[name]) for name, most in self.most.items()}

    # From sums to measures

    def values(self, times: Floats | None = None) -> dict[str, Floats]:
        """Measures by their key in `definitions`, [draws] each.

        Args:
            times: How often each block counts in each draw, [draws, blocks]; None: once, one draw.
        """
        times = np.ones((1, self.blocks)) if times is None else times
        sums = dict(zip(SUMS, (times @ self.sums.cpu().numpy()).T, strict=True))
        y, e = times @ self.y.cpu().numpy(), times @ self.e.cpu().numpy()
        with np.errstate(invalid="ignore", divide="ignore"):
            return (
                _explained(sums, y, e, self.mean.cpu().numpy())
                | _lengths(sums)
                | _sparsity(sums, len(self.lengths))
            )

    def intervals(
        self, draws: int = 1000, seed: int = 0, level: float = 0.95
    ) -> dict[str, tuple[float, float]]:
        """Ends of the interval of each measure, over resampled texts; NaN with fewer than two."""
        if self.blocks < 2:
            return {name: (float("nan"), float("nan")) for name in self.values()}
        drawn = GroupBootstrap(np.arange(self.blocks), draws=draws, seed=seed).times.astype(float)
        tail = 50 * (1 - level)
        found = {}
        for name, values in self.values(drawn).items():
            low, high = (
                np.nanpercentile(values, [tail, 100 - tail])
                if np.isfinite(values).any()
                else (np.nan, np.nan)
            )
            found[name] = (float(low), float(high))
        return found


def _over(value: Tensor, by: Tensor) -> Tensor:
    """Quotient, and 0 where there is nothing to divide by."""
    return (value / by).where(by > 0, 0.0)


def _reconstruction(
    y: Tensor, centred: Tensor, rebuilt: Tensor, error: Tensor
) -> dict[str, Tensor]:
    y2, c2, e2, r2 = (x.square().sum(1) for x in (y, centred, error, rebuilt))
    yr = (y * rebuilt).sum(1)
    return {
        "rows": torch.ones_like(y2), "seen": y2 > 0, "spread": c2 > 0,
        "y2": y2, "c2": c2, "e2": e2, "e": e2.sqrt(), "r2": r2, "yr": yr,
        "nmse": _over(e2, y2), "ratio": _over(e2, c2), "length": _over(r2.sqrt(), y2.sqrt()),
        "cosine": _over(yr, (y2 * r2).sqrt()),
    }  # fmt: skip


def _explained(sums: dict[str, Floats], y: Floats, e: Floats, mean: Floats) -> dict[str, Floats]:
    """Of sums [draws], of centred rows and of errors [draws, d]."""
    n = sums["rows"]
    spread = sums["c2"] / n - np.square(y / n[:, None]).sum(1)
    varying = sums["e2"] / n - np.square(e / n[:, None]).sum(1)
    scalar = (y / n[:, None] + mean).mean(1)
    return {
        "explained_variance": 1 - sums["e2"] / n / spread,
        "explained_variance_mean_of_ratios": 1 - sums["ratio"] / sums["spread"],
        "explained_variance_blind_to_offset": 1 - varying / spread,
        "r2_around_scalar_mean": 1 - sums["e2"] / (sums["y2"] - n * y.shape[1] * scalar**2),
        "normalised_error": sums["nmse"] / sums["seen"],
        "squared_error": sums["e2"] / n,
        "error_norm": sums["e"] / n,
    }


def _lengths(sums: dict[str, Floats]) -> dict[str, Floats]:
    return {
        "cosine": sums["cosine"] / sums["seen"],
        "length_ratio": sums["length"] / sums["seen"],
        "reconstruction_bias": sums["r2"] / sums["yr"],
        "norm_error": sums["gap"] / sums["rows"],
        "norm_error_with_bias": sums["gap_bias"] / sums["rows"],
        "under_activated": sums["under"] / sums["active"],
        "elbo_h": sums["h"] / sums["pairs"],
        "elbo_k": sums["k"] / sums["pairs"],
        "elbo_h_with_bias": sums["h_bias"] / sums["pairs_bias"],
        "elbo_k_with_bias": sums["k_bias"] / sums["pairs_bias"],
    }


def _sparsity(sums: dict[str, Floats], latents: int) -> dict[str, Floats]:
    l0 = sums["l0"] / sums["rows"]
    return {
        "l0": l0,
        "l1": sums["l1"] / sums["rows"],
        "empty_rows": 1 - sums["active"] / sums["rows"],
        "description_length": l0 * (BITS + np.log2(latents)),
    }
