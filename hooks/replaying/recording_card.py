"""A recording in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from layerscope.distribution import many
from layerscope.notebook import card, cared, listing

if TYPE_CHECKING:
    from layerscope.hooks.replay import Recording


def recording_card(run: Recording, kept: dict[str, Tensor]) -> str:
    """What was recorded, its sites, and how to go on from one of them."""
    lines = [(site, str(list(x.shape))) for site, x in kept.items()]
    return card(
        "Recording",
        f"of {type(run.model).__name__}",
        [
            f"{many(len(run), 'prompt')} of {many(run.length, 'position')}",
            many(run.n_blocks, "block"),
            "" if run.exact else "continued by whole passes with hooks",
        ],
        listing(("site", "shape"), lines) + cared(run.notes),
        after=f'run.replay("{next(reversed(kept), "embed")}", value, at=-1).logits',
    )
