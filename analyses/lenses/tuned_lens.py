"""The tuned lens: each layer's affine map trained so that the head says there what it says last.

Belrose et al. 2023, with their optimiser: SGD with Nesterov momentum 0.9, learning rate decaying
linearly to zero, weight decay 1e-3, gradients clipped at norm 1. Their 250 steps of 262,144 tokens
become fewer and smaller steps here; the parameters of a finding say how many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from layerscope.analyses.lenses.affine_maps import AffineFit
from layerscope.analyses.lenses.lens_measures import BUDGET, chunked, kl, widened
from layerscope.analyses.lenses.translators import AffineLens
from layerscope.analyses.material.texts import Texts, residuals
from layerscope.hooks.unembed import Unembed

MOMENTUM = 0.9
DECAY = 1e-3
CLIP = 1.0
LEARNING_RATE = 1.0
"""Of the authors; as they do, it is multiplied by 1 - momentum."""


class TunedLensFit:
    """A tuned lens in training; each `update` is one step.

    Args:
        decode: The model's head: states `[n, d]` to logits `[n, V]`. It is not changed.
        blocks: How many blocks the model has; residuals 0 to blocks - 1 are translated.
        width: d.
        steps: After how many steps the learning rate has become zero.
        rate: Learning rate at the first step, before the factor 1 - momentum.
    """

    def __init__(
        self,
        decode: Callable[[Tensor], Tensor],
        blocks: int,
        width: int,
        *,
        steps: int,
        rate: float = LEARNING_RATE,
        device: torch.device | str = "cpu",
        budget: int = BUDGET,
    ) -> None:
        if steps < 1:
            raise ValueError(f"a lens is trained for at least 1 step, not {steps}")
        self.decode, self.steps, self.rate, self.budget = decode, steps, rate, budget
        self.weight = torch.zeros(blocks, width, width, device=device)
        self.bias = torch.zeros(blocks, width, device=device)
        self._own = self.weight, self.bias
        self._speed = [torch.zeros_like(x) for x in self._own]
        self.losses: list[Tensor] = []
        """For each step `[blocks]`: mean KL(final || lens) in nats, before the step."""

    def update(self, states: Tensor) -> TunedLensFit:
        """One step on residuals `[blocks + 1, n, d]`, the last being what the head reads.

        Raises:
            ValueError: residuals of another shape, or a loss that is not finite.
        """
        blocks, width = self.bias.shape
        if states.ndim != 3 or len(states) != blocks + 1 or states.shape[-1] != width:
            raise ValueError(
                f"this lens takes residuals [{blocks + 1}, rows, {width}], got {list(states.shape)}"
            )
        gradients = [torch.zeros_like(x) for x in self._own]
        loss = torch.zeros(blocks, device=self.bias.device)
        for rows, logits in chunked(torch.no_grad()(self.decode), states[-1], self.budget):
            logp = widened(logits).log_softmax(-1)
            share = len(logp) / states.shape[1]
            for layer in range(blocks):
                value, slopes = self._slopes(layer, states[layer, rows], logp)
                loss[layer] += share * value
                for total, slope in zip(gradients, slopes, strict=True):
                    total[layer] += share * slope
        if not bool(torch.isfinite(loss).all()):
            raise ValueError(
                f"the loss is not finite at step {len(self.losses)}; "
                "use a lower learning rate, or look for NaN in the states"
            )
        self._step(gradients)
        self.losses.append(loss.cpu())
        return self

    def result(self, **about: object) -> AffineLens:
        """The lens as it is now, frozen; `about` is kept with it."""
        return AffineLens(self.weight.clone(), self.bias.clone(), "tuned", dict(about))

    def _slopes(self, layer: int, states: Tensor, logp: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Mean KL at one layer, and its gradients for weight and bias; none reach the model."""
        wide = widened(states)
        with torch.enable_grad():
            own = [x[layer].to(wide.dtype, copy=True).requires_grad_() for x in self._own]
            moved = (wide + torch.nn.functional.linear(wide, *own)).to(states.dtype)
            loss = kl(logp, widened(self.decode(moved)).log_softmax(-1)).mean()
            slopes = torch.autograd.grad(loss, own)
        return loss.detach(), [slope.detach() for slope in slopes]

    def _step(self, gradients: list[Tensor]) -> None:
        length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        shrink = (CLIP / (length + 1e-6)).clamp(max=1.0)
        left = max(0.0, 1 - len(self.losses) / self.steps)
        rate = self.rate * (1 - MOMENTUM) * left
        for values, slope, speed in zip(
            (self.weight, self.bias), gradients, self._speed, strict=True
        ):
            slope = slope * shrink + DECAY * values
            speed.mul_(MOMENTUM).add_(slope)
            values.sub_(rate * (slope + MOMENTUM * speed))


def fit_tuned(
    model: nn.Module,
    texts: Texts,
    *,
    steps: int = 100,
    tokens: int = 512,
    rate: float = LEARNING_RATE,
    seed: int = 0,
    progress: bool = True,
) -> AffineLens:
    """Train a tuned lens on texts, which are run through the model as they are needed.

    Args:
        texts: From `as_texts`.
        steps: How many updates.
        tokens: About how many tokens each update sees.
        rate: Learning rate at the first step, times 1 - momentum.
        seed: Of the order of texts.
        progress: Whether to show a bar.
    """
    from tqdm.auto import tqdm

    decode = Unembed(model)
    stream = _stream(model, texts, tokens, seed)
    fit: TunedLensFit | None = None
    for _ in tqdm(range(steps), desc="tuned lens", unit="step", disable=not progress):
        states = next(stream)
        if fit is None:
            blocks, width = len(states) - 1, states.shape[-1]
            fit = TunedLensFit(decode, blocks, width, steps=steps, rate=rate, device=states.device)
        fit.update(states)
    if fit is None:
        raise ValueError(f"a lens is trained for at least 1 step, not {steps}")
    return fit.result(steps=steps, tokens=tokens, rate=rate, seed=seed, texts=len(texts))


def fit_affine(
    model: nn.Module,
    texts: Texts,
    *,
    ridge: float = 1e-3,
    tokens: int = 2048,
    progress: bool = True,
) -> AffineLens:
    """The least-squares map from each residual to the last one, less the identity; closed form."""
    from tqdm.auto import tqdm

    fit: AffineFit | None = None
    bar = tqdm(total=len(texts), desc="affine lens", unit="text", disable=not progress)
    with bar:
        for index, ids in texts.batches(tokens):
            states = residuals(model, ids).flatten(1, 2)
            if fit is None:
                size = (len(states) - 1, states.shape[-1])
                fit = AffineFit(size, (1, size[1]))
            fit.update(states[:-1], states[-1:])
            bar.update(len(index))
    if fit is None:
        raise ValueError("there are no texts to fit a lens on")
    found = fit.result(ridge=ridge)
    weight = found.weight[:, 0] - torch.eye(found.weight.shape[-1], dtype=torch.float64)
    about = {"ridge": ridge, "rows": found.rows, "texts": len(texts)}
    return AffineLens(weight.float(), found.bias[:, 0].float(), "affine", about)


def _stream(model: nn.Module, texts: Texts, tokens: int, seed: int) -> Iterator[Tensor]:
    """Residuals `[L + 1, about tokens, d]`, text after text in random order, over and over."""
    chance = torch.Generator().manual_seed(seed)
    waiting: list[Tensor] = []
    while True:
        batches = list(texts.batches(tokens))
        for number in torch.randperm(len(batches), generator=chance).tolist():
            waiting.append(residuals(model, batches[number][1]).flatten(1, 2))
            if sum(x.shape[1] for x in waiting) >= tokens:
                yield torch.cat(waiting, 1)
                waiting = []
