"""Five features in two dimensions: the pentagon of the toy model, and its dictionary."""

from __future__ import annotations

import numpy as np
import torch

from layerscope.analyses.sae import train_together
from layerscope.analyses.sae.measuring.dictionary import matched
from layerscope.planted.superposition import superposition


def test_the_pentagon_and_its_five_directions_are_found() -> None:
    model = superposition()
    assert float((model.gaps - 72).abs().max()) < 3
    hidden = model.hidden(100_000, seed=1)
    saes = train_together(
        hidden.x,
        width=5,
        k=1,
        seed=(0, 1, 2),
        tokens=1500 * 1024,
        batch=1024,
        lr=3e-3,
        progress=False,
    )
    # One of five latents in two dimensions may be caught between two; the error tells.
    errors = [float((hidden.x - sae(hidden.x)).square().mean()) for sae in saes]
    best = saes[int(np.argmin(errors))]
    # Signed: opposite directions are different features.
    found = matched(best.W_dec, model.directions, signed=True)
    assert np.degrees(np.arccos(found.cosine.clip(-1, 1))).max() < 4
    assert sorted(found.latent) == [0, 1, 2, 3, 4]
    single = (hidden.support.sum(1) == 1).nonzero().flatten()
    fired = best.encode(hidden.x[single]).argmax(1)
    told = torch.from_numpy(found.latent)[hidden.amplitudes[single].argmax(1)]
    strong = hidden.amplitudes[single].amax(1) > 0.2
    assert float((fired == told)[strong].float().mean()) > 0.99
