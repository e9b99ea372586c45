"""Sparse autoencoders: trained on known directions, measured, looked at, written and read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from layerscope.calibration.instrument import Instrument, Reading
from layerscope.calibration.instruments.rows import planted_store

if TYPE_CHECKING:
    from layerscope.analyses.sae import SAE

SPARSE = "Sparse dictionaries"


def _train(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.analyses import sae

    features, width, rows = 6, 12, 4096
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(width, features, generator=generator))[0].T
    which = torch.randint(features, (rows,), generator=generator)
    sizes = 1 + torch.rand(rows, 1, generator=generator)
    x = sizes * directions[which]
    found = sae.train(
        x, width=24, k=1, tokens=300 * 256, batch=256, lr=1e-2, seed=seed, progress=False
    )
    measured = sae.evaluate(
        found, x, reference=directions, signed=True, baselines=False, progress=False
    )
    # Gradient descent has come so near after 300 steps, from any start.
    yield Reading("cosine with the planted directions", 1.0, measured.value("mcc"), 0.02, "cosine")
    explained = measured.value("explained_variance")
    yield Reading("explained variance", 1.0, explained, 0.02, "share")
    # No row has a part at right angles to all six: what a random start wrote there must be gone.
    written = found.W_dec[found.encode(x).gt(0).any(0)]
    left = written - written @ directions.T @ directions
    yield Reading("length written where no row is", 0.0, float(left.norm(dim=1).mean()), 0.1)


def _evaluate(seed: int) -> Iterator[Reading]:
    import torch

    from layerscope.analyses import sae
    from layerscope.planted.sparse_features import sparse_features

    width = 16
    truth = sparse_features(1500, width, width, probability=0.2, orthonormal=True, seed=seed)
    zero, q = torch.zeros(width), truth.directions
    good = sae.SAE(q.T, zero - 1e-4, q, zero)
    found = sae.evaluate(
        good, truth.x, reference=q, features=truth.amplitudes, seed=seed, progress=False
    )
    yield Reading(
        "explained variance, the planted dictionary",
        1.0,
        found.value("explained_variance"),
        1e-5,
        "share",
    )
    l0 = float(truth.support.sum(1).double().mean())
    yield Reading("L0, the planted dictionary", l0, found.value("l0"), 1e-6, "latents")
    for key in ("mcc", "f1"):
        yield Reading(f"{key}, the planted dictionary", 1.0, found.value(key), 1e-5)
    # Eight of the sixteen directions, and the mean of what the others write.
    first, rest = q[: width // 2], q[width // 2 :]
    bias = truth.x.mean(0) @ rest.T @ rest
    half = sae.SAE(first.T, zero[: width // 2] - 1e-4, first, bias, subtract_b_dec=False)
    kept = truth.amplitudes.double().var(0, correction=0)
    expected = float(kept[: width // 2].sum() / kept.sum())
    value = sae.evaluate(half, truth.x, baselines=False, seed=seed, progress=False).value(
        "explained_variance"
    )
    yield Reading("explained variance, half of the dictionary", expected, value, 1e-3, "share")
    mean = sae.SAE(torch.zeros(width, 4), torch.zeros(4), torch.zeros(4, width), truth.x.mean(0))
    empty = sae.evaluate(mean, truth.x, baselines=False, seed=seed, progress=False)
    yield Reading(
        "explained variance, a constant", 0.0, empty.value("explained_variance"), 1e-5, "share"
    )
    yield Reading("dead latents, a constant", 1.0, empty.value("dead_share"), unit="share")


WORDS = ("cat", "dog", "red", "runs")
KINDS = ("noun", "noun", "colour", "verb")


def _features(seed: int) -> Iterator[Reading]:
    import numpy as np
    import torch

    from layerscope.analyses import sae

    counts = (60, 50, 40, 30)
    which = np.random.default_rng(seed).permutation(np.repeat(np.arange(4), counts))
    rows = len(which)
    x = torch.zeros(rows, 6)
    x[torch.arange(rows), torch.from_numpy(which)] = 1 + torch.from_numpy(which % 3).float()
    words = np.array(WORDS, dtype=object)[which]
    columns = {
        "text": np.arange(rows) // 6,
        "position": np.arange(rows) % 6,
        "group": [f"g{row // 6}" for row in range(rows)],
        "token_id": which,
        "token": words,
        "kind": np.array(KINDS, dtype=object)[which],
    }
    eye = torch.eye(6)[:, :5]
    site = "blocks.0.resid_post"
    known = sae.SAE(eye, torch.zeros(5), eye.T, torch.zeros(6), about={"site": site})
    with planted_store({site: x}, **columns) as store:
        found = sae.features(
            known, store, label="kind", layout="none", seed=seed, progress=False
        ).table.set_index("latent")
    fired = " ".join(str(n) for n in found["fired"])
    yield Reading("rows on which the latents fire", "60 50 40 30 0", fired, unit="rows")
    classes = " ".join(str(found["class"][latent]) for latent in range(4))
    yield Reading("class that each tells best", " ".join(KINDS), classes)
    yield Reading("F1 of the only latent of a class", 1.0, float(found["score"][2]), 1e-9)
    yield Reading("largest code of a latent", 3.0, float(found["max"][2]), 1e-6, "activation")
    yield Reading("cosine of neighbours", 0.0, float(found["cosine"].max()), 1e-6, "cosine")


def _formats(seed: int) -> Iterator[Reading]:
    import numpy as np
    import torch

    from layerscope.analyses import sae

    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    x, width, latents = 3 * draw(50, 8), 8, 20
    weights = draw(width, latents), draw(latents), draw(latents, width), draw(width)
    level = draw(latents).abs()
    kinds: dict[str, dict[str, Any]] = {
        "relu": {},
        "topk": {"k": 3},
        "jumprelu": {"threshold": level},
        "gated": {"r_mag": draw(latents), "b_mag": draw(latents)},
    }
    with TemporaryDirectory(prefix="layerscope-planted-") as folder:
        for kind, more in kinds.items():
            written = sae.SAE(*weights, activation=kind, **more)
            again = sae.load(sae.save(written, Path(folder) / kind))
            yield Reading(f"{kind}, saved and loaded", 0.0, _apart(written, again, x), unit="code")
        names = ("W_enc", "b_enc", "W_dec", "b_dec")
        arrays: dict[str, Any] = dict(zip(names, (part.numpy() for part in weights), strict=True))
        np.savez(Path(folder) / "params.npz", **arrays, threshold=level.numpy())
        theirs = sae.load(Path(folder) / "params.npz")
        ours = sae.SAE(*weights, activation="jumprelu", threshold=level, subtract_b_dec=False)
        yield Reading("Gemma Scope's layout", 0.0, _apart(ours, theirs, x), unit="code")
        (Path(folder) / "relu" / "cfg.json").unlink()
        try:
            told = f"loaded {sae.load(Path(folder) / 'relu')!r}"
        except ValueError:
            told = "refused"
        yield Reading("weights without their settings", "refused", told)


def _apart(one: SAE, other: SAE, x: Any) -> float:
    """Largest difference of codes or of reconstructions."""
    codes = (one.encode(x) - other.encode(x)).abs().max()
    return float(max(codes, (one(x) - other(x)).abs().max()))


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "sae.train",
        SPARSE,
        "Rows that are one of six directions at a time, in twelve dimensions.",
        "the construction",
        _train,
    ),
    Instrument(
        "sae.evaluate",
        SPARSE,
        "A dictionary that is the planted one, half of it, and a constant.",
        "counts and variances of the construction",
        _evaluate,
    ),
    Instrument(
        "sae.features",
        SPARSE,
        "Four words with a latent each, and a latent that never fires.",
        "counts of the construction",
        _features,
    ),
    Instrument(
        "sae.formats",
        SPARSE,
        "Random weights, written and read again; and a folder without its settings.",
        "the same weights in memory",
        _formats,
    ),
)
