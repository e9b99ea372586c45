"""Absorption where the feature is known: the first letter of a word."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layerscope.analyses.material.resampling import mean_intervals
from layerscope.analyses.sae.measuring.absorption import (
    absorption_fraction,
    full_absorption,
    projections,
)
from layerscope.analyses.sae.measuring.coded_rows import class_gaps, columns
from layerscope.analyses.sae.measuring.measured_rows import MeasuredRows
from layerscope.analyses.sae.sae import SAE
from layerscope.store import Store

Floats = NDArray[np.float64]
LEAST_F1 = 0.6
"""Of the probe on held-out tokens, below which a letter says nothing about absorption."""
RISE = 0.03
"""Of F1, by which one more split latent must help."""
MOST_SPLIT = 10
CANDIDATES = 50
"""Latents among which the split ones are sought, those whose means differ most."""
PER_TOKEN = 20
"""Rows of one token at most, so that a few frequent words do not decide."""
TEST = 0.3
WIDEST = 1024
"""Dimensions up to which Newton steps, with a matrix as wide as the row, are the faster way."""


@dataclass(frozen=True)
class Letter:
    """One letter whose probe is good enough."""

    letter: str
    f1: float
    """Of the probe, held out."""
    split: tuple[int, ...]
    fraction: Floats
    """[rows] at which the probe is right."""
    full: NDArray[np.bool_]
    tokens: NDArray[np.int64]
    """[rows] number of the token."""


@dataclass(frozen=True)
class Probes:
    """Of each letter in training and test, over all rows with a first letter."""

    test: NDArray[np.bool_]
    """[rows] whose tokens are held out."""
    letters: dict[int, tuple[Floats, NDArray[np.bool_], float]]
    """Letter -> unit direction [d], [rows] held out and guessed right, held-out F1; those of `LEAST_F1`."""


@dataclass(frozen=True)
class Letters:
    """Rows whose token begins a word with a letter."""

    index: NDArray[np.int64]
    codes: NDArray[np.int64]
    """[rows] 0 for a, 25 for z."""
    tokens: NDArray[np.int64]
    """[rows] token ids."""


def first_letters(store: Store, *, seed: int = 0) -> Letters:
    """Tokens that begin a word with a letter from a to z, at most `PER_TOKEN` rows of each.

    Raises:
        ValueError: a store whose rows do not say where in the text they are.
    """
    frame = store.rows
    if "char_start" not in frame or "token" not in frame:
        raise ValueError(
            "first letters need rows that are tokens of texts, with char_start and token"
        )
    tokens = frame["token"].astype(str).to_numpy()
    texts = store.texts
    bodies = {number: str(text) for number, text in texts.items()}
    begins = np.fromiter(
        (
            _begins(bodies[text], int(start), token)
            for text, start, token in zip(
                frame["text"].to_numpy(), frame["char_start"].to_numpy(), tokens, strict=True
            )
        ),
        dtype=np.int64,
        count=len(tokens),
    )
    kept = np.flatnonzero(begins >= 0)
    ids = frame["token_id"].to_numpy().astype(np.int64)
    order = np.random.default_rng(seed).permutation(kept)
    order = order[np.argsort(ids[order], kind="stable")]
    _, first = np.unique(ids[order], return_index=True)
    within = np.arange(len(order)) - np.repeat(first, np.diff([*first, len(order)]))
    index = np.sort(order[within < PER_TOKEN])
    return Letters(index, begins[index], ids[index])


def _begins(text: str, start: int, token: str) -> int:
    """Number of the letter with which the token begins a word; -1 where it does not."""
    letter = token.strip()[:1].lower()
    inside = not token[:1].isspace() and start > 0 and text[start - 1].isalnum()
    return (
        ord(letter) - ord("a") if "a" <= letter <= "z" and len(letter) == 1 and not inside else -1
    )


def letter_probes(
    rows: MeasuredRows, letters: Letters, width: int, device: torch.device, *, seed: int = 0
) -> Probes:
    """Fit a probe for each letter; they know no dictionary, so that all dictionaries share them.

    Tokens, not rows, are dealt to training and test: a probe that has seen a token knows its letter.
    """
    mine = replace(rows, index=letters.index, groups=np.arange(len(letters.index)))
    x = columns(mine, lambda x: x, width, device, np.arange(width))
    scale = float(np.sqrt(np.mean(np.square(x - x.mean(0)))))
    kinds = np.unique(letters.tokens)
    held = np.random.default_rng(seed).permutation(kinds)[: round(TEST * len(kinds))]
    test = np.isin(letters.tokens, held)
    if not test.any() or test.all():
        return Probes(test, {})
    found = _probes(x / scale, letters.codes, test)
    return Probes(test, {code: one for code, one in found.items() if one[2] >= LEAST_F1})


def letter_absorption(
    rows: MeasuredRows, letters: Letters, sae: SAE, probes: Probes
) -> list[Letter]:
    """Absorption of each letter that a probe finds in tokens it was not trained on.

    A letter for which no latent fires is left out: where nothing stands for it, nothing is absorbed.
    """
    if not probes.letters:
        return []
    device, test, good = sae.W_enc.device, probes.test, list(probes.letters)
    mine = replace(rows, index=letters.index, groups=np.arange(len(letters.index)))
    members = np.stack([letters.codes[~test] == code for code in good])
    train = replace(mine, index=letters.index[~test], groups=np.arange(int((~test).sum())))
    gaps = class_gaps(train, sae.encode, sae.n_latents, device, members)
    # Of latents that never fire the gap is 0: they can stand for nothing.
    best = np.argsort(-gaps, axis=1)[:, : min(CANDIDATES, sae.n_latents)]
    chosen = np.unique(best)
    values = columns(train, sae.encode, sae.n_latents, device, chosen)
    found = []
    for code, candidates, inside in zip(good, best, members, strict=True):
        own = values[:, np.searchsorted(chosen, candidates)]
        if not own[inside].any():
            continue
        latents = candidates[_split(own, inside)]
        direction, right, f1 = probes.letters[code]
        at = np.flatnonzero(right & (letters.codes == code))
        if not len(at):
            continue
        fraction, full = _absorbed(mine, at, sae, latents, torch.from_numpy(direction).to(device))
        name = chr(ord("a") + code)
        found.append(Letter(name, f1, tuple(latents.tolist()), fraction, full, letters.tokens[at]))
    return found


def summary(found: list[Letter], *, seed: int = 0) -> dict[str, tuple[float, float, float, int]]:
    """Means over letters' rows with intervals over tokens: `fraction` and `full`."""
    nothing = (float("nan"),) * 3
    if not found:
        return {"fraction": (*nothing, 0), "full": (*nothing, 0)}
    tokens = np.unique(np.concatenate([one.tokens for one in found]), return_inverse=True)[1]
    values = np.stack(
        [
            np.concatenate([one.fraction for one in found]),
            np.concatenate([one.full.astype(np.float64) for one in found]),
        ],
        axis=1,
    )
    sums = np.zeros((int(tokens.max()) + 1, 2))
    np.add.at(sums, tokens, values)
    counts = np.bincount(tokens).astype(np.float64)
    low, high = mean_intervals(sums, counts, seed=seed)
    mean = values.mean(0)
    return {
        name: (float(mean[i]), max(0.0, float(low[i])), float(high[i]), len(values))
        for i, name in enumerate(("fraction", "full"))
    }


def _probes(
    x: Floats, codes: NDArray[np.int64], test: NDArray[np.bool_]
) -> dict[int, tuple[Floats, NDArray[np.bool_], float]]:
    """For each letter in training and test: unit direction, [rows] right guesses, held-out F1."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    found = {}
    for code in np.unique(codes):
        inside = codes == code
        if inside[~test].sum() < 2 or inside[test].sum() < 2:
            continue
        solver = "newton-cholesky" if x.shape[1] <= WIDEST else "lbfgs"
        model = LogisticRegression(max_iter=1000, solver=solver).fit(x[~test], inside[~test])
        said = model.predict(x)
        weight = model.coef_[0]
        f1 = float(f1_score(inside[test], said[test], zero_division=0))
        # Only held-out tokens count further on.
        found[int(code)] = (weight / np.linalg.norm(weight), (said == inside) & test, f1)
    return found


def _split(values: Floats, inside: NDArray[np.bool_]) -> list[int]:
    """Columns that stand for the letter: in the order of an L1 regression, while F1 rises."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    scaled = values / np.where(values.std(0) > 0, values.std(0), 1.0)
    first = LogisticRegression(l1_ratio=1.0, solver="liblinear", class_weight="balanced")
    # Largest, not largest in size: a latent that speaks against the letter does not stand for it.
    order = np.argsort(-first.fit(scaled, inside).coef_[0], kind="stable")
    chosen: list[int] = []
    reached = -np.inf
    for column in order[:MOST_SPLIT].tolist():
        model = LogisticRegression(class_weight="balanced", max_iter=300)
        part = scaled[:, [*chosen, column]]
        f1 = f1_score(inside, model.fit(part, inside).predict(part), zero_division=0)
        if chosen and f1 <= reached + RISE:
            break
        chosen, reached = [*chosen, column], f1
    return chosen


def _absorbed(
    rows: MeasuredRows,
    at: NDArray[np.int64],
    sae: SAE,
    latents: NDArray[np.int64],
    direction: Tensor,
) -> tuple[Floats, NDArray[np.bool_]]:
    part = replace(rows, index=rows.index[at], groups=np.arange(len(at)))
    decoder = sae.W_dec[:, : sae.d_in].double()
    cosines = (decoder @ direction) / decoder.norm(dim=1).clamp_min(1e-300)
    split = torch.from_numpy(latents).to(direction.device)
    fractions, fulls = [], []
    for _, x, _, _ in part.blocks(sae.n_latents, direction.device):
        codes = sae.encode(x).double()
        written = projections(codes, decoder, direction)
        total = x.double() @ direction
        fractions.append(absorption_fraction(written, cosines, split, total))
        fulls.append(full_absorption(written, cosines, split, total, codes))
    return torch.cat(fractions).cpu().numpy(), torch.cat(fulls).cpu().numpy()
