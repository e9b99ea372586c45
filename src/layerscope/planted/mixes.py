"""Layers and tokens of which only some carry the label, so that the right mix or pooling is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def labelled_layer(
    rows: int, layers: int, width: int, *, where: int, gap: float = 4.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """States ``[layers, rows, width]`` and labels ``[rows]`` of which layer `where` alone knows.

    Two classes `gap` apart along the first axis of that layer, in unit noise; the layers have sizes
    1, 2, 3, ... so that a mix without standardising would be led by the last.
    """
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (rows,), generator=generator)
    x = torch.randn(layers, rows, width, generator=generator)
    x[where, :, 0] += gap * (y - 0.5)
    return x * torch.arange(1, layers + 1)[:, None, None], y


def labelled_mean(
    lengths: Sequence[int], width: int, *, shift: float = 0.5, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens ``[tokens, width]``, the text of each ``[tokens]``, and the label of each text.

    Every token of a text is shifted by plus or minus `shift` along the first axis, in unit noise, but
    the last token, which is noise alone. So the mean of a text of n tokens tells the classes apart
    with accuracy Phi(shift (n - 1) / sqrt(n)), and the last token not at all.
    """
    generator = torch.Generator().manual_seed(seed)
    count = torch.tensor(list(lengths))
    y = torch.randint(2, (len(count),), generator=generator)
    text = torch.repeat_interleave(torch.arange(len(count)), count)
    x = torch.randn(len(text), width, generator=generator)
    x[:, 0] += shift * (2 * y[text] - 1)
    ends = count.cumsum(0) - 1
    x[ends] = torch.randn(len(count), width, generator=generator)
    return x, text, y
