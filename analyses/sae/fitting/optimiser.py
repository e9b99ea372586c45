"""One Adam step for a whole group, with each SAE's own clipping and the decoder held at norm 1."""

from __future__ import annotations

import torch
from torch import Tensor

from layerscope.analyses.sae.architectures.architecture import Architecture, Weights


class Optimiser:
    """In this order: project the decoder's gradient, clip, Adam, renormalise the decoder.

    The part of a gradient along its decoder row would be undone by the renormalisation, but would
    enter Adam's moments, so it is taken out first. Norms are clipped for each SAE by itself:
    trained together or apart, the same happens.
    """

    def __init__(
        self, weights: Weights, architecture: Architecture, rates: tuple[float, ...], clip: float
    ) -> None:
        self._weights = weights
        self._unit = architecture.unit_decoder
        self._rates = rates
        self._clip = clip
        # Adam on views of one SAE each, so that each can have its own rate.
        self._names = list(weights.named())
        groups = [
            {"params": [tensor.detach()[member] for tensor in weights.named().values()], "lr": rate}
            for member, rate in enumerate(rates)
        ]
        self._adam = torch.optim.Adam(groups, betas=architecture.betas, fused=True)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Use the gradients that `backward` left, with this factor of the learning rates."""
        gradients = {name: self._gradient(name) for name in self._names}
        if self._unit:
            _remove_radial(gradients["decoder"], self._weights.decoder)
        self._clip_each(list(gradients.values()))
        for member, group in enumerate(self._adam.param_groups):
            group["lr"] = self._rates[member] * rate
            for tensor, name in zip(group["params"], self._names, strict=True):
                tensor.grad = gradients[name][member]
        self._adam.step()
        if self._unit:
            decoder = self._weights.decoder
            decoder.div_(torch.linalg.vector_norm(decoder, dim=-1, keepdim=True))
        self._forget()

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts by name, for a checkpoint."""
        found = {}
        for member, group in enumerate(self._adam.param_groups):
            for tensor, name in zip(group["params"], self._names, strict=True):
                for key, value in self._adam.state.get(tensor, {}).items():
                    found[f"adam.{member}.{name}.{key}"] = value
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        for member, group in enumerate(self._adam.param_groups):
            for tensor, name in zip(group["params"], self._names, strict=True):
                prefix = f"adam.{member}.{name}."
                self._adam.state[tensor] = {
                    key.removeprefix(prefix): value.clone().to(tensor.device)
                    for key, value in state.items()
                    if key.startswith(prefix)
                }

    def _gradient(self, name: str) -> Tensor:
        tensor = self._weights.named()[name]
        return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad

    def _clip_each(self, gradients: list[Tensor]) -> None:
        flat = [gradient.view(len(gradient), -1) for gradient in gradients]
        each = torch.stack([torch.linalg.vector_norm(gradient, dim=1) for gradient in flat])
        norms = torch.linalg.vector_norm(each, dim=0)
        factors = (self._clip / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))

    def _forget(self) -> None:
        for tensor in self._weights.named().values():
            tensor.grad = None
        for group in self._adam.param_groups:
            for tensor in group["params"]:
                tensor.grad = None


def _remove_radial(gradient: Tensor, decoder: Tensor) -> None:
    """Make each row of `gradient` orthogonal to its row of `decoder`, in place."""
    along = torch.einsum("gfd,gfd->gf", gradient, decoder)
    squares = torch.linalg.vector_norm(decoder, dim=-1).square()
    gradient.addcmul_((along / squares)[..., None], decoder, value=-1)
