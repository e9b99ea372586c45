"""A decoder without any nonlinearity: what patches do adds up, and gradients are exact."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 16
VOCAB = 11


class Mix(nn.Module):
    """A matrix times the mean of the positions that each one sees."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matrix = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)
        return self.matrix(x.cumsum(1) / seen[:, None])  # type: ignore[no-any-return]


class LinearBlock(nn.Module):
    """Each position adds what it sees, then a matrix times itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = Mix(width)
        self.mlp = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(x)
        return x + self.mlp(x)  # type: ignore[no-any-return]


class LinearDecoder(nn.Module):
    """Token ids `[b, p]` to logits `[b, p, 11]`, linear in the embeddings."""

    def __init__(self, n_blocks: int = 4) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.ModuleList(LinearBlock(WIDTH) for _ in range(n_blocks))
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed

    def get_output_embeddings(self) -> nn.Linear:
        return self.head


def linear_decoder(n_blocks: int = 4, *, seed: int = 0) -> LinearDecoder:
    """Random weights in float64; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LinearDecoder(n_blocks).double().eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return model
