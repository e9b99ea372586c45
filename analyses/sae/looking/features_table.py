"""The table of `features`: one line for each latent, examples included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from layerscope.analyses.sae.looking.class_counts import Classes
from layerscope.analyses.sae.looking.examples import Example, commonest
from layerscope.analyses.sae.looking.firing import Firing
from layerscope.analyses.sae.looking.logit_effects import LogitEffects
from layerscope.analyses.sae.sae import SAE
from layerscope.store import Store

if TYPE_CHECKING:
    import pandas as pd


def counted(sae: SAE, store: Store, seen: Firing) -> pd.DataFrame:
    """What the pass counted, for all latents."""
    import pandas as pd

    fired = seen.fired.cpu().numpy()
    with np.errstate(invalid="ignore"):
        mean = np.where(fired > 0, seen.total.cpu().numpy() / fired, np.nan)
    written = seen.squares * sae.W_dec.double().square().sum(1)
    every = float(written.sum())
    tokens, shares = commonest(seen.pool, store)
    return pd.DataFrame(
        {
            "latent": np.arange(sae.n_latents),
            "fired": fired,
            "density": fired / seen.rows,
            "mean_active": mean,
            "max": seen.top.value[:, 0].double().cpu().numpy().clip(0),
            "energy": (written / every).cpu().numpy() if every else 0.0,
            "token": pd.Series(tokens, dtype=object),
            "token_share": shares,
            "n": seen.rows,
        }
    )


def class_columns(classes: Classes, label: str, random: float) -> dict[str, Any]:
    """What each latent tells of a label, and how many latents of a random dictionary tell a class."""
    return {
        "label": label,
        "class": classes.name,
        "score": classes.score,
        "null": classes.null,
        "null_sd": classes.null_sd,
        "precision": classes.precision,
        "recall": classes.recall,
        "base": classes.base,
        "random_told": random,
    }


def nearest_columns(index: Tensor, cosine: Tensor) -> dict[str, list[Any]]:
    """Neighbours by decoder cosine: the first as numbers, all as lists."""
    near, close = index.tolist(), [[round(x, 4) for x in row] for row in cosine.tolist()]
    return {
        "nearest": [row[0] if row else None for row in near],
        "cosine": [row[0] if row else float("nan") for row in close],
        "neighbours": near,
        "cosines": close,
    }


def effect_columns(
    effects: LogitEffects, mean: Sequence[float], spell: Callable[[int], str]
) -> dict[str, list[Any]]:
    """Tokens raised and lowered, with logits at the mean code; a latent that never fires has none."""
    scale = torch.tensor(mean)[:, None]
    silent = scale.isnan()[:, 0].tolist()
    found: dict[str, list[Any]] = {}
    for name in ("up", "down"):
        tokens: Tensor = getattr(effects, name)
        logits = (getattr(effects, f"{name}_logits").double() * scale).tolist()
        found[name] = [
            [] if dead else [spell(token) for token in row]
            for row, dead in zip(tokens.tolist(), silent, strict=True)
        ]
        found[f"{name}_logits"] = [
            [] if dead else row for row, dead in zip(logits, silent, strict=True)
        ]
    return found


def strongest_token(examples: list[Example]) -> str | None:
    """The token of the strongest example."""
    return str(examples[0]["tokens"][examples[0]["focus"]]) if examples else None
