"""From the name of a lens to the lens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from layerscope.analyses.lenses.translators import AffineLens, LogitLens, Translator
from layerscope.analyses.lenses.tuned_lens import fit_affine, fit_tuned
from layerscope.analyses.material.texts import Texts, as_texts
from layerscope.hooks.anatomy import anatomy

KINDS = ("logit", "tuned", "affine")


def fit_lens(
    model: nn.Module,
    data: Any = None,
    *,
    kind: Literal["tuned", "affine"] = "tuned",
    steps: int = 100,
    tokens: int = 512,
    rate: float = 1.0,
    ridge: float = 1e-3,
    limit: int | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> AffineLens:
    """A lens fitted on all of `data`, to be saved and used on other texts: ``lens(kind=...)``.

    Args:
        model: A model with an unembedding; it is not changed.
        data: A corpus, a path, texts or ids; None takes bundled sentences.
        kind: ``"tuned"`` (trained on KL(final || lens)) or ``"affine"`` (least squares, closed
            form).
        steps: Updates of a tuned lens.
        tokens: Tokens of one update.
        rate: Learning rate of a tuned lens at its first step, times 1 - momentum.
        ridge: Penalty of a least-squares lens, relative to the variance of a layer's features.
        limit: At most so many texts.
        tokenizer: Object or path; None takes the model's own.
        seed: Of the order of texts in training.
        progress: Whether to show a bar.

    Raises:
        ValueError: a kind that is not fitted, no texts, or a loss that is not finite.
    """
    if kind not in ("tuned", "affine"):
        raise ValueError(f"kind {kind!r} is not fitted; there is 'tuned' and 'affine'")
    texts = as_texts(model, data, tokenizer=tokenizer, limit=limit)
    how = Fitting(steps=steps, tokens=tokens, rate=rate, ridge=ridge, seed=seed, progress=progress)
    made = how(model, kind, texts)
    assert isinstance(made, AffineLens)
    return replace(made, about=made.about | {"model": anatomy(model).model, "data": texts.name})


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
