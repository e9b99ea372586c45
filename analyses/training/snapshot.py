"""One look at a network between two steps of its training, which leaves no trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from layerscope.hooks.extracting.sample_feed import SampleStep
from layerscope.hooks.listening.watch import watch
from layerscope.hooks.load import device_of, dtype_of
from layerscope.hooks.places import pick
from layerscope.hooks.quiet import undisturbed

if TYPE_CHECKING:
    from layerscope.corpus import SampleBatch, Samples

REDUCTIONS = ("mean", "flatten", "last", "first")
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Look:
    """What was seen."""

    activations: dict[str, list[Tensor]] = field(default_factory=dict)
    """Site -> ``[rows, width]`` float32 of each batch, on CPU."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Site -> shape of one row before it was reduced."""
    losses: list[float] = field(default_factory=list)
    """Sum over the rows of each batch."""
    right: int = 0
    classified: bool = False

    def joined(self) -> dict[str, Tensor]:
        return {site: torch.cat(parts) for site, parts in self.activations.items()}


def look(
    model: nn.Module,
    samples: Samples,
    sites: Sequence[str],
    *,
    reduce: str,
    batch: int,
    seed: int,
    loss: Loss | None = None,
    labels: Tensor | None = None,
) -> Look:
    """Run the model on all rows and keep what the sites hold.

    Eval mode, no gradients, no autocast; the random generators are as before afterwards, and inside
    start from `seed`, so that noise in the network is the same at every look.
    """
    found = Look({site: [] for site in sites})
    now: list[SampleBatch] = []

    def see(site: str, x: Tensor) -> None:
        found.shapes[site] = tuple(x.shape[1:])
        rows = reduced(site, x, now[-1], reduce)
        found.activations[site].append(rows.detach().float().cpu().clone())

    device, dtype = device_of(model), dtype_of(model)
    with (
        undisturbed(model),
        torch.autocast(device.type, enabled=False),
        watch(model, sites, see, stop=False),
    ):
        _seed(model, seed)
        for one in samples.batches(batch):
            now[:] = [one]
            args, kwargs = SampleStep(one, "mean", 1, 0).inputs(device, dtype)
            output = model(*args, **kwargs)
            if loss is not None and labels is not None:
                _score(found, output, labels[one.start : one.stop].to(device), loss)
    missed = [site for site, parts in found.activations.items() if not parts]
    if missed:
        raise LookupError(
            f"the model ran, but never reached {', '.join(missed)}; record only sites that it uses"
        )
    return found


def reduced(site: str, x: Tensor, batch: SampleBatch, rule: str) -> Tensor:
    """``[rows, width]`` from a site: of feature maps and sequences the mean, one position, or all."""
    if rule not in ("first", "last") or x.ndim != 3:
        rule = "mean" if rule in ("first", "last") else rule
        return SampleStep(batch, rule, 1, 0).rows(site, x)
    n = batch.stop - batch.start
    if x.shape[0] != n and x.shape[1] == n:
        x = x.transpose(0, 1)
    mask = batch.mask
    if rule == "first" or mask is None or mask.shape[1] != x.shape[1]:
        at = torch.full((n,), 0 if rule == "first" else x.shape[1] - 1)
    else:
        at = (mask.long() * torch.arange(mask.shape[1])).amax(1)
    return x[torch.arange(n, device=x.device), at.to(x.device)]


def _seed(model: nn.Module, seed: int) -> None:
    """Seed the generators that `undisturbed` puts back, and no others."""
    torch.default_generator.manual_seed(seed)
    for index in {p.device.index for p in model.parameters() if p.device.type == "cuda"}:
        torch.cuda.default_generators[index or 0].manual_seed(seed)


def _score(found: Look, output: Any, labels: Tensor, loss: Loss) -> None:
    logits = getattr(output, "logits", None)
    logits = pick(output) if logits is None else logits
    found.losses.append(float(loss(logits, labels)) * len(labels))
    if logits.ndim == 2 and logits.shape[1] > 1:
        found.classified = True
        found.right += int((logits.argmax(1) == labels).sum())
