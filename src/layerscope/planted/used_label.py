"""A decoder that knows two labels of each token and uses one: what erasing either costs is algebra.

Eight tokens are the corners of a cube. The stream holds the three coordinates of the current token,
in a turned frame, and blocks add nothing. The next token is predicted from the first coordinate
alone: the four tokens that share it are likely, the other four are not. The second coordinate is
there to be read, and nothing reads it.
"""

from __future__ import annotations

from math import exp, log

import torch
from torch import Tensor, nn

from layerscope.planted.linear_decoder import VOCAB, WIDTH, LinearDecoder

TOKENS = 8
NEVER = -40.0
"""Logit of the three ids that stand for no token."""


class UsedLabel(LinearDecoder):
    """A linear decoder that takes a mask, and needs none: positions do not see each other."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return super().forward(input_ids)


def corners() -> Tensor:
    """``[8, 3]`` coordinates of the tokens, each -1 or 1: used label, idle label, neither."""
    bits = torch.tensor([[t & 1, (t >> 1) & 1, (t >> 2) & 1] for t in range(TOKENS)])
    return bits.double() * 2 - 1


def used_label(strength: float = 3.0, n_blocks: int = 2, *, seed: int = 0) -> UsedLabel:
    """The decoder, in double precision; the global random state is left alone.

    Args:
        strength: By how much the logits of the likely four exceed those of the other four.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = UsedLabel(n_blocks).double().eval()
        frame = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64))[0]
    table = torch.zeros(VOCAB, WIDTH, dtype=torch.float64)
    table[:TOKENS, :3] = corners()
    table[:, 3] = 1.0
    head = torch.zeros(VOCAB, WIDTH, dtype=torch.float64)
    head[:TOKENS, 0] = strength / 2 * corners()[:, 0]
    head[TOKENS:, 3] = NEVER
    with torch.no_grad():
        for block in model.blocks:
            for part in block.modules():
                if isinstance(part, nn.Linear):
                    part.weight.zero_()
        model.embed.weight.copy_(table @ frame)
        model.head.weight.copy_(head @ frame)
    return model


def walk(rows: int, *, seed: int = 0) -> Tensor:
    """``[rows]`` tokens: the first coordinate of a text never changes, the others are drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    used = torch.randint(2, (1,), generator=generator)
    return used + 2 * torch.randint(4, (rows,), generator=generator)


def mirrored_walks(quartets: int, rows: int, *, seed: int = 0) -> Tensor:
    """``[quartets, 4, rows]`` tokens: a text, and the same with one, the other or both labels reversed.

    In any choice of quartets both labels are there as often as not, and in every combination as
    often: their means and their covariance are exactly 0.
    """
    walks = torch.stack([walk(rows, seed=seed * quartets + number) for number in range(quartets)])
    return walks[:, None] ^ torch.arange(4)[:, None]


def loss(strength: float) -> float:
    """Nats per token of the model on such texts: ln 4 + ln(1 + exp(-strength))."""
    return log(4) + log(1 + exp(-strength))


def loss_without(strength: float, mean: float) -> float:
    """The same where the used coordinate was replaced by its mean, over texts of either kind alike."""
    return sum(log(4) + log(1 + exp(-sign * mean * strength)) for sign in (-1, 1)) / 2
