"""One checkpoint against the first: weights, states, signs, tangent kernel, loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.material.blocks import Blocks, jackknife
from layerscope.analyses.material.resampling import mean_intervals
from layerscope.analyses.measures.kernels import alignment, centred, gram, shuffled
from layerscope.analyses.measures.tangent_kernels import TangentKernel
from layerscope.analyses.regimes.regime_material import Seen
from layerscope.hooks.sites import layer_of

DRAWS = 20
"""Orders of the rows behind each null."""
WHOLE = "whole network"
ESTIMATORS = {
    "weight_change": "Frobenius norm of the difference",
    "relative_weight_change": "Frobenius norm of the difference over that of the first",
    "representation_alignment": "cosine of Gram matrices, uncentred",
    "centred_representation_alignment": "cosine of Gram matrices, centred (linear CKA)",
    "sign_similarity": "share of equal signs",
    "tangent_kernel_alignment": "cosine of tangent kernels, uncentred",
    "centred_tangent_kernel_alignment": "cosine of tangent kernels, centred over samples",
    "loss": "mean",
}


@dataclass(frozen=True)
class Snapshot:
    """What is compared of one checkpoint."""

    weights: Mapping[str, Tensor]
    seen: Seen
    kernel: TangentKernel | None
    grams: dict[str, Tensor]
    """Site -> ``[rows, rows]`` float64."""

    @classmethod
    def of(
        cls, weights: Mapping[str, Tensor], seen: Seen, kernel: TangentKernel | None
    ) -> Snapshot:
        grams = {site: gram(x).double() for site, x in seen.states.items()}
        return cls(weights, seen, kernel, grams)


@dataclass(frozen=True)
class Comparison:
    """What all comparisons of one run share."""

    first: Snapshot
    parts: Mapping[str, tuple[str, int | None]]
    """Parameter -> part and layer."""
    groups: NDArray[np.int64]
    sample_groups: NDArray[np.int64]
    outputs: int
    kernel_estimator: str
    seed: int

    def lines(self, other: Snapshot) -> Iterator[dict[str, Any]]:
        """Lines of the table for one checkpoint."""
        yield from self._weights(other)
        for site in self.first.grams:
            yield from self._site(site, other)
        yield from self._kernels(other)
        yield from self._loss(other)

    def _weights(self, other: Snapshot) -> Iterator[dict[str, Any]]:
        squares: dict[tuple[str, int | None], list[float]] = {(WHOLE, None): [0.0, 0.0]}
        for name, before in self.first.weights.items():
            moved = float((other.weights[name].to(before) - before).double().square().sum())
            size = float(before.double().square().sum())
            for place in ((WHOLE, None), self.parts[name]):
                total = squares.setdefault(place, [0.0, 0.0])
                total[0] += moved
                total[1] += size
        for (part, layer), (moved, size) in squares.items():
            change = moved**0.5
            yield _line("weight_change", part, layer, change, unit="Frobenius norm")
            relative = change / size**0.5 if size else float("nan")
            yield _line(
                "relative_weight_change", part, layer, relative, unit="share of the first norm"
            )

    def _site(self, site: str, other: Snapshot) -> Iterator[dict[str, Any]]:
        one, two = self.first.grams[site], other.grams[site]
        at = {"site": site, "layer": layer_of(site)}
        blocks = self._blocks(self.groups)
        yield self._aligned("representation_alignment", one, two, blocks) | at
        yield self._aligned("centred_representation_alignment", one, two, blocks, center=True) | at
        yield self._signs(self.first.seen.states[site], other.seen.states[site], blocks) | at

    def _kernels(self, other: Snapshot) -> Iterator[dict[str, Any]]:
        if self.first.kernel is None or other.kernel is None:
            return
        layers = dict(self.parts.values())
        pairs = {
            WHOLE: (self.first.kernel.whole, other.kernel.whole),
            **{p: (k, other.kernel.parts[p]) for p, k in self.first.kernel.parts.items()},
        }
        blocks = np.repeat(self._blocks(self.sample_groups), self.outputs)
        for part, (one, two) in pairs.items():
            for center in (False, True):
                name = f"{'centred_' * center}tangent_kernel_alignment"
                line = self._aligned(name, one, two, blocks, center=center, block=self.outputs)
                estimator = f"{line['estimator']}; {self.kernel_estimator}"
                yield line | {"site": part, "layer": layers.get(part), "estimator": estimator}

    def _loss(self, other: Snapshot) -> Iterator[dict[str, Any]]:
        if other.seen.losses is None:
            return
        sums, counts = other.seen.losses
        low, high = mean_intervals(sums[:, None], counts, seed=self.seed)
        texts = len(counts) > 1
        yield _line("loss", WHOLE, None, float(sums.sum() / counts.sum()), low[0], high[0]) | {
            "unit": "nats per token" if texts else "as given",
            "n": int(counts.sum()) if texts else len(self.groups),
            "n_groups": len(counts) if texts else len(np.unique(self.groups)),
        }

    def _blocks(self, groups: NDArray[np.int64]) -> NDArray[np.int64]:
        numbers = np.unique(groups, return_inverse=True)[1]
        return Blocks.of(numbers, seed=self.seed).number

    def _aligned(
        self,
        name: str,
        one: Tensor,
        two: Tensor,
        blocks: NDArray[np.int64],
        *,
        center: bool = False,
        block: int = 1,
    ) -> dict[str, Any]:
        def value(a: Tensor, b: Tensor) -> float:
            if center:
                a, b = centred(a, block), centred(b, block)
            return float(alignment(a, b))

        without = []
        for left in range(int(blocks.max()) + 1):
            kept = torch.from_numpy(np.flatnonzero(blocks != left))
            without.append(value(one[kept][:, kept], two[kept][:, kept]))
        null = [value(one, mixed) for mixed in shuffled(two, DRAWS, block=block, seed=self.seed)]
        found = value(one, two)
        low, high = (float(end.clip(-1, 1)) for end in jackknife(found, without))
        groups = self.sample_groups if "tangent" in name else self.groups
        return _line(name, "", None, found, low, high, null=null, unit="cosine") | {
            "n": len(one) // block,
            "n_groups": len(np.unique(groups)),
        }

    def _signs(self, one: Tensor, two: Tensor, blocks: NDArray[np.int64]) -> dict[str, Any]:
        a, b = (torch.sign(x).to(torch.int8) for x in (one, two))
        share = (a == b).double().mean(1)
        where = torch.from_numpy(blocks)
        sizes = torch.bincount(where).double()
        sums = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, where, share)
        left = (share.sum() - sums) / (len(share) - sizes)
        generator = torch.Generator().manual_seed(self.seed)
        orders = [torch.randperm(len(b), generator=generator) for _ in range(DRAWS)]
        null = [float((a == b[order]).double().mean()) for order in orders]
        value = float(share.mean())
        low, high = (float(end.clip(0, 1)) for end in jackknife(value, left.numpy()))
        return _line("sign_similarity", "", None, value, low, high, null=null, unit="share") | {
            "n": len(a),
            "n_groups": len(np.unique(self.groups)),
        }


def _line(
    name: str,
    part: str,
    layer: int | None,
    value: float,
    low: float = float("nan"),
    high: float = float("nan"),
    *,
    null: list[float] | None = None,
    unit: str = "",
) -> dict[str, Any]:
    return {
        "measure": name,
        "site": part,
        "layer": layer,
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "null_mean": float(np.mean(null)) if null else float("nan"),
        "null_sd": float(np.std(null, ddof=1)) if null else float("nan"),
        "n": 0,
        "n_groups": 0,
        "unit": unit,
        "estimator": ESTIMATORS[name],
    }
