"""`lens`: what each layer would say next, through the model's own head."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from layerscope.analyses.lenses.lens_finding import LensFinding
from layerscope.analyses.lenses.lens_fitting import Fitting, check_kind
from layerscope.analyses.lenses.lens_measures import MEASURES
from layerscope.analyses.lenses.lens_profile import Floats, Profile, profile
from layerscope.analyses.lenses.translators import LogitLens, Translator
from layerscope.analyses.material.texts import (
    Texts,
    as_texts,
    group_means,
    looks_ahead,
    residual_sites,
)
from layerscope.finding import Provenance
from layerscope.hooks.anatomy import anatomy
from layerscope.hooks.sites import layer_of
from layerscope.hooks.twin import untrained_twin

if TYPE_CHECKING:
    import pandas as pd

FIRST_LEFT_OUT = (
    "Values leave out the first token of each text, which models treat specially; the column "
    "with_first has them all."
)


def lens(
    model: nn.Module,
    data: Any = None,
    *,
    kind: str | Translator | Sequence[str | Translator] = "logit",
    fit: Any = None,
    test: float = 0.3,
    k: int = 5,
    twin: bool = True,
    steps: int = 100,
    fit_tokens: int = 512,
    rate: float = 1.0,
    ridge: float = 1e-3,
    limit: int | None = None,
    tokenizer: Any = None,
    seed: int = 0,
    progress: bool = True,
) -> LensFinding:
    """How near each layer's next-token distribution is to the final one, over many tokens.

    Args:
        model: A model with an unembedding.
        data: A corpus, a path, texts or ids; None takes bundled sentences.
        kind: ``"logit"`` (the head reads every layer as it is), ``"tuned"`` (after an affine map
            trained on KL(final || lens)), ``"affine"`` (after a least-squares map to the last
            layer), a lens that was fitted before (`AffineLens`), or several of these.
        fit: Texts to fit lenses on; None holds back the share `test` of the groups of `data` to
            measure on, and fits on the rest.
        test: Share of the groups that is measured, where `data` has to serve both.
        k: Length of the lists of likeliest tokens whose overlap is measured.
        twin: Whether to measure the logit lens of an untrained twin as well.
        steps: Updates of the tuned lens.
        fit_tokens: Tokens of one update.
        rate: Learning rate of the tuned lens at its first step, times 1 - momentum.
        ridge: Penalty of the least-squares lens, relative to the variance of a layer's features.
        limit: At most so many texts of `data`.
        tokenizer: Object or path; None takes the model's own.
        seed: Of split, training order, twin and intervals.
        progress: Whether to show bars.

    Returns:
        A `LensFinding`: a line for each lens, layer and measure.

    Raises:
        ValueError: an unknown kind, no text of two tokens, one group only where texts must be
            held out, or a model whose head cannot be read.
    """
    started = time.perf_counter()
    texts = as_texts(model, data, tokenizer=tokenizer, limit=limit)
    listed = list(kind) if isinstance(kind, Sequence) and not isinstance(kind, str) else [kind]
    wanted = [one for one in listed if isinstance(one, str)]
    _check(wanted, texts)
    fitted_on: Texts | None = None
    if set(wanted) - {"logit"} and fit is None:
        fitted_on, texts = texts.split(test, seed=seed)
    elif set(wanted) - {"logit"}:
        fitted_on = as_texts(model, fit, tokenizer=tokenizer)
    how = Fitting(
        steps=steps, tokens=fit_tokens, rate=rate, ridge=ridge, seed=seed, progress=progress
    )
    lenses: dict[str, Translator] = {}
    for one in listed:
        made = how(model, one, fitted_on)
        lenses[_free(made.kind, lenses)] = made
    ahead = looks_ahead(model, max(texts.prompts.ids, key=len)[:8])
    found = _measured(model, texts, list(lenses.values()), k, ahead, progress)
    other = None
    if twin:
        fresh = untrained_twin(model, seed=seed)
        other = _measured(fresh, texts, [LogitLens()], k, ahead, progress, "untrained twin")
    blocks = len(anatomy(model).blocks)
    passes = len(texts) * (1 + twin) + (_passes(lenses, fitted_on) if fitted_on else 0)
    return LensFinding(
        table=_table(found, other, list(lenses), texts, k, seed),
        provenance=Provenance(
            model=anatomy(model).model,
            data=f"{texts.name}: {texts.tokens:,} tokens",
            parameters={
                "kind": list(lenses),
                "fitted": {n: getattr(one, "about", {}) for n, one in lenses.items()},
                "k": k,
                "twin": twin,
                "layer_evaluations": passes * blocks,
            },
            seed=seed,
            seconds=round(time.perf_counter() - started, 2),
        ),
        notes=(*texts.notes, *_notes(model, lenses, fitted_on, texts, ahead, twin)),
    )


def _check(kinds: Sequence[str], texts: Texts) -> None:
    for kind in kinds:
        check_kind(kind)
    if all(len(ids) < 2 for ids in texts.prompts.ids):
        raise ValueError(
            "every text is a single token, which is the first of its text; a lens is measured on "
            "the others"
        )


def _measured(
    model: nn.Module,
    texts: Texts,
    lenses: Sequence[Translator],
    k: int,
    ahead: bool,
    progress: bool,
    name: str = "lens",
) -> Profile:
    from tqdm.auto import tqdm

    with tqdm(total=len(texts), desc=name, unit="text", disable=not progress) as bar:
        return profile(model, texts, lenses, k=k, next_token=not ahead, seen=bar.update)


def _table(
    found: Profile, twin: Profile | None, names: Sequence[str], texts: Texts, k: int, seed: int
) -> pd.DataFrame:
    import pandas as pd

    columns = {measure: _means(found, measure, texts, seed) for measure in MEASURES}
    others = {measure: _means(twin, measure, texts, seed) for measure in MEASURES} if twin else {}
    blocks = next(iter(found.sums.values())).shape[1] - 1
    lines: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        for layer, site in enumerate(residual_sites(blocks)):
            for measure, unit in MEASURES.items():
                if not found.counts[measure].any():
                    continue
                at = number, layer
                line: dict[str, Any] = {"lens": name, "site": site, "layer": layer_of(site)}
                ends = zip(("value", "ci_low", "ci_high"), columns[measure], strict=True)
                line |= {"measure": measure} | {end: float(x[at]) for end, x in ends}
                line |= {"with_first": _with_first(found, measure, at)}
                line |= {"baseline": found.guess[measure]}
                if others and name == "logit":
                    ends = zip(("twin", "twin_low", "twin_high"), others[measure], strict=True)
                    line |= {end: float(x[0, layer]) for end, x in ends}
                line |= {
                    "n": int(found.counts[measure][:, 0].sum()),
                    "n_groups": texts.n_groups,
                    "unit": unit.replace("top k", f"top {k}"),
                    "estimator": "geometric mean of 1 + rank, less 1"
                    if measure == "rank"
                    else "mean over tokens",
                }
                lines.append(line)
    return pd.DataFrame(lines)


def _means(found: Profile, measure: str, texts: Texts, seed: int) -> tuple[Floats, Floats, Floats]:
    """Mean over all tokens but the first of each text, and its 95 % interval over groups.

    Each is `[lenses, L + 1]`.
    """
    ends = group_means(found.sums[measure][..., 0], found.counts[measure][:, 0], texts, seed)
    mean, low, high = (_readable(measure, x) for x in ends)
    return mean, low, high


def _with_first(found: Profile, measure: str, at: tuple[int, int]) -> float:
    mean = found.sums[measure][at].sum() / found.counts[measure].sum()
    return float(_readable(measure, mean))


def _readable(measure: str, x: Floats) -> Floats:
    """Ranks were summed as logarithms."""
    return np.expm1(x) if measure == "rank" else x


def _free(name: str, taken: dict[str, Translator]) -> str:
    """`name`, or with a number where two lenses are of one kind."""
    number = 2
    while name in taken:
        name, number = f"{name.split(' ')[0]} {number}", number + 1
    return name


def _passes(lenses: dict[str, Translator], texts: Texts) -> int:
    """Texts that were run to fit: each once for least squares, over and over for training."""
    count = 0
    for one in lenses.values():
        about = getattr(one, "about", {})
        mean = texts.tokens / len(texts)
        count += len(texts) if one.kind == "affine" else 0
        count += round(about.get("steps", 0) * about.get("tokens", 0) / mean)
    return count


def _notes(
    model: nn.Module,
    lenses: dict[str, Translator],
    fitted_on: Texts | None,
    texts: Texts,
    ahead: bool,
    twin: bool,
) -> list[str]:
    notes = [FIRST_LEFT_OUT]
    if _tied(model) and "logit" in lenses:
        notes.append(
            "Input and output embedding share their weights, so at embed the logit lens gives back "
            "the token that was read."
        )
    if ahead:
        notes.append(
            "This model reads both ways, so there is no next token: rank and surprisal are left out."
        )
    if fitted_on is not None:
        notes.append(
            f"Lenses were fitted on {fitted_on.tokens:,} tokens in {fitted_on.n_groups} groups, "
            "none of which is measured."
        )
    if texts.n_groups < 20:
        notes.append(
            f"{texts.n_groups} groups are few: intervals over groups are too narrow."
            if texts.n_groups > 1
            else "One group of texts only, so there are no intervals."
        )
    if twin and "logit" in lenses:
        notes.append(
            "An untrained twin says nearly the same at every layer, so its KL is small and its "
            "agreement may be large; what counts is the change from layer to layer, which it lacks."
        )
    return notes


def _tied(model: nn.Module) -> bool:
    ends = [
        getattr(model, f"get_{side}_embeddings", lambda: None)() for side in ("input", "output")
    ]
    weights = [getattr(end, "weight", None) for end in ends]
    return weights[0] is not None and weights[0] is weights[1]
