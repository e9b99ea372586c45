"""A recording in words: at a prompt, and in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from layerscope.distribution import many
from layerscope.notebook import card, cared, listing

if TYPE_CHECKING:
    from layerscope.hooks.replay import Recording

_INEXACT = "continued by whole passes with hooks"


def recording_lines(run: Recording, kept: dict[str, Tensor]) -> str:
    """What was recorded, and how to go on from its last site."""
    how = "" if run.exact else f"; {_INEXACT}"
    return (
        f"Recording of {type(run.model).__name__}: {many(len(run), 'prompt')} of {run.length} "
        f"positions, {many(run.n_blocks, 'block')}, {many(len(kept), 'site')}{how}\n"
        f"  next: {_next(kept)}"
    )


def recording_card(run: Recording, kept: dict[str, Tensor]) -> str:
    """What was recorded, its sites, and how to go on from one of them."""
    lines = [(site, str(list(x.shape))) for site, x in kept.items()]
    return card(
        "Recording",
        f"of {type(run.model).__name__}",
        [
            f"{many(len(run), 'prompt')} of {many(run.length, 'position')}",
            many(run.n_blocks, "block"),
            "" if run.exact else _INEXACT,
        ],
        listing(("site", "shape"), lines) + cared(run.notes),
        after=_next(kept),
    )


def _next(kept: dict[str, Tensor]) -> str:
    return f'run.replay("{next(reversed(kept), "embed")}", value, at=-1).logits'
