"""From the name of a lens to the lens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from layerscope.analyses.texts import Texts
from layerscope.analyses.translators import LogitLens, Translator
from layerscope.analyses.tuned_lens import fit_affine, fit_tuned

KINDS = ("logit", "tuned", "affine")


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How lenses are fitted."""

    steps: int = 100
    """Updates of a tuned lens."""
    tokens: int = 512
    """Tokens of one update."""
    rate: float = 1.0
    """Learning rate of a tuned lens at its first step, times 1 - momentum."""
    ridge: float = 1e-3
    """Penalty of a least-squares lens, relative to the variance of a layer's features."""
    seed: int = 0
    progress: bool = True

    def __call__(self, model: nn.Module, kind: str | Translator, texts: Texts | None) -> Translator:
        """The lens of that kind, fitted on `texts`; a lens that is there already stays as it is."""
        if not isinstance(kind, str):
            return kind
        check_kind(kind)
        if kind == "logit" or texts is None:
            return LogitLens()
        if kind == "affine":
            return fit_affine(model, texts, ridge=self.ridge, progress=self.progress)
        return fit_tuned(
            model,
            texts,
            steps=self.steps,
            tokens=self.tokens,
            rate=self.rate,
            seed=self.seed,
            progress=self.progress,
        )


def check_kind(kind: str) -> None:
    """Raises ValueError for an unknown name."""
    if kind not in KINDS:
        raise ValueError(
            f"kind {kind!r} is unknown; there is: {', '.join(KINDS)}, or a fitted lens"
        )
