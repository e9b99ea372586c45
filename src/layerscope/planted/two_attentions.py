"""The same attention twice: in one fused call, and written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fused(nn.Module):
    """Attention by one fused call, keys and values shared by pairs of heads."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.q, self.kv, self.o = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (4, 4)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2, 2, 4)).permute(2, 0, 3, 1, 4)
        z = F.scaled_dot_product_attention(
            q, k, v, is_causal=self.causal, enable_gqa=True, scale=0.3
        )
        return self.o(z.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Written(nn.Module):
    """The same attention, written out with heads merged into the batch."""

    def __init__(self, fused: Fused) -> None:
        super().__init__()
        self.q, self.kv, self.o, self.causal = fused.q, fused.kv, fused.o, fused.causal

    def forward(self, x: Tensor) -> Tensor:
        b, p, _ = x.shape
        q = self.q(x).view(b, p, 4, 4).transpose(1, 2).reshape(b * 4, p, 4)
        k, v = self.kv(x).unflatten(-1, (2, 2, 4)).permute(2, 0, 3, 1, 4)
        k, v = (y.repeat_interleave(2, 1).reshape(b * 4, p, 4) for y in (k, v))
        scores = torch.bmm(q, k.transpose(1, 2)) * 0.3
        if self.causal:
            scores = scores + torch.full((p, p), -torch.inf).triu(1)
        weights = F.dropout(F.softmax(scores, dim=-1), 0.5, self.training)
        z = torch.bmm(weights, v).view(b, 4, p, 4).transpose(1, 2)
        return self.o(z.flatten(2))  # type: ignore[no-any-return]
