"""`train` and `train_together`: sparse autoencoders from a store, a running model, or tensors."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from layerscope.analyses.sae.architectures.architecture import Architecture
from layerscope.analyses.sae.fitting import memory
from layerscope.analyses.sae.fitting.asking import plan_for
from layerscope.analyses.sae.fitting.checkpoint import header_of
from layerscope.analyses.sae.fitting.finished import give_back, keep, open_folder
from layerscope.analyses.sae.fitting.history import finding
from layerscope.analyses.sae.fitting.loop import Training
from layerscope.analyses.sae.fitting.plan import Plan, Sites
from layerscope.analyses.sae.rows.open import rows_of
from layerscope.analyses.sae.rows.source import Rows
from layerscope.analyses.sae.rows.statistics import Statistics, statistics_of
from layerscope.analyses.sae.sae import SAE
from layerscope.store.disk import megabytes

if TYPE_CHECKING:
    from layerscope.store import Store

    Data = Store | str | Path | Tensor | Mapping[str, Tensor] | nn.Module | Rows

STATISTICS = 16_384
"""Rows from which the statistics are taken that an SAE keeps."""


def train(
    data: Data,
    site: int | str | Sequence[int | str] | None = None,
    *,
    target: int | str | None = None,
    architecture: str | Architecture = "topk",
    width: int | None = None,
    k: int | None = None,
    l1: float | None = None,
    tokens: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    dead_after: int | None = None,
    clip: float = 1.0,
    scaling: str = "scale",
    precision: str = "auto",
    corpus: Any = None,
    tokenizer: Any = None,
    reservoir_rows: int | None = None,
    to: str | Path | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: bool = True,
) -> SAE:
    """Train one sparse autoencoder on the rows of a site.

    The rows come shuffled; units are taken off and folded into the weights at the end, so that the
    SAE takes raw activations. With `to` the training survives a kill: called again, it goes on and
    ends in the same bits; called once more, it gives the finished SAE back.

    Args:
        data: A store (or its path), a model (with `corpus`), a tensor [rows, width], or a tensor
            for each site.
        site: A layer, a site, or for a crosscoder a list of them. Not needed for a bare tensor.
        target: Another site, which is to be reconstructed from this one: a transcoder.
        architecture: topk, batchtopk, matryoshka, jumprelu, relu, relu_april, gated, afa,
            crosscoder, transcoder, or an object such as ``sae.JumpReLU(l0=(20,))`` with options.
        width: Latents; None: 8 for each dimension.
        k: Active latents per row; of jumprelu the number to aim at; None: 32.
        l1: Weight of the penalty, for architectures that have one.
        tokens: Rows to see, counted as often as they are seen; None: ten passes.
        batch: Rows of a step; None: 4,096, on a GPU 16,384, at most a quarter of the rows.
        lr: Adam's learning rate; None: 2e-4 at 16,384 latents, falling with the root of the width.
            Warm-up over the first twentieth (1,000 steps at most), linear decay over the last fifth.
        dead_after: Rows of silence after which a latent counts as dead; None: an eighth of
            `tokens`, 10 million at most.
        clip: Largest norm of a gradient.
        scaling: Units of the training: scale (mean norm sqrt(d) after centring), none,
            per_dimension, whiten.
        precision: float32, bfloat16 (products only; weights and sums stay float32), or auto:
            bfloat16 on a GPU.
        corpus: Texts for a running model.
        tokenizer: For a running model; None: its own.
        reservoir_rows: Rows over which a running model's rows are shuffled; None chooses.
        to: Folder for checkpoints and the finished SAE.
        device: Where to train; None: where a model is, else the GPU if there is one.
        seed: Of initial weights and of the order of rows.
        progress: Whether to show memory and a bar.

    Returns:
        The SAE. ``sae.history`` is how the training went, ``sae.statistics`` what its rows looked
        like, ``sae.about`` where they came from.

    Raises:
        LookupError: a site that is not there.
        ValueError: fewer rows than a batch, k larger than the width, NaN rows (named), constant
            rows, options or sites for several SAEs, or a folder that holds another training.
        FileExistsError: the folder holds an SAE of other origin.
        FloatingPointError: the loss left the numbers.
    """
    (sae,) = _trained(
        data,
        site,
        target,
        single=True,
        corpus=corpus,
        tokenizer=tokenizer,
        reservoir_rows=reservoir_rows,
        to=to,
        device=device,
        progress=progress,
        architecture=architecture,
        width=width,
        k=k,
        l1=l1,
        tokens=tokens,
        batch=batch,
        lr=lr,
        dead_after=dead_after,
        clip=clip,
        scaling=scaling,
        precision=precision,
        seed=seed,
    )
    return sae


def train_together(
    data: Data,
    sites: int | str | Sequence[int | str] | None = None,
    *,
    target: int | str | None = None,
    architecture: str | Architecture = "topk",
    width: int | None = None,
    k: int | Sequence[int] | None = None,
    l1: float | Sequence[float] | None = None,
    tokens: int | None = None,
    batch: int | None = None,
    lr: float | Sequence[float] | None = None,
    dead_after: int | None = None,
    clip: float = 1.0,
    scaling: str = "scale",
    precision: str = "auto",
    corpus: Any = None,
    tokenizer: Any = None,
    reservoir_rows: int | None = None,
    to: str | Path | None = None,
    device: str | torch.device | None = None,
    seed: int | Sequence[int] = 0,
    progress: bool = True,
) -> tuple[SAE, ...]:
    """Train several SAEs at once: one for each site and each value of k, l1, lr or seed.

    SAEs of one site share their rows and one product, several sites go through one batched product,
    and a running model runs once for all of them. Each ends as if it had been trained by itself
    (up to rounding): gradients are clipped and latents counted dead one by one.

    Args:
        data: As for `train`.
        sites: Layers, sites or a pattern; each gets its own SAEs, a crosscoder all of them.
        target: As for `train`, of transcoders that all read the one site in `sites`.
        architecture: As for `train`.
        width: As for `train`.
        k: Also several, such as ``(16, 32, 64)``. Lists go side by side, not crossed.
        l1: Also several.
        tokens: As for `train`.
        batch: As for `train`.
        lr: Also several.
        dead_after: As for `train`.
        clip: As for `train`.
        scaling: As for `train`.
        precision: As for `train`.
        corpus: As for `train`.
        tokenizer: As for `train`.
        reservoir_rows: As for `train`.
        to: As for `train`; the SAEs get folders of their own in there.
        device: As for `train`.
        seed: Also several; the order of rows is that of the first.
        progress: As for `train`.

    Returns:
        The SAEs, site by site, in the order of the options.

    Raises:
        LookupError: a site that is not there.
        ValueError: as for `train`; lists of different lengths; sites of different widths.
    """
    return _trained(
        data,
        sites,
        target,
        single=False,
        corpus=corpus,
        tokenizer=tokenizer,
        reservoir_rows=reservoir_rows,
        to=to,
        device=device,
        progress=progress,
        architecture=architecture,
        width=width,
        k=k,
        l1=l1,
        tokens=tokens,
        batch=batch,
        lr=lr,
        dead_after=dead_after,
        clip=clip,
        scaling=scaling,
        precision=precision,
        seed=seed,
    )


def _trained(
    data: Data,
    site: int | str | Sequence[int | str] | None,
    target: int | str | None,
    *,
    single: bool,
    corpus: Any,
    tokenizer: Any,
    reservoir_rows: int | None,
    to: str | Path | None,
    device: str | torch.device | None,
    progress: bool,
    seed: int | Sequence[int],
    architecture: str | Architecture,
    **options: Any,
) -> tuple[SAE, ...]:
    started = time.perf_counter()
    asked = _listed(site) if target is None else [*_listed(site), target]
    first = seed if isinstance(seed, int) else seed[0]
    where = device if device is not None or isinstance(data, nn.Module) else _best_device()
    with rows_of(
        data,
        asked or None,
        corpus=corpus,
        tokenizer=tokenizer,
        reservoir_rows=reservoir_rows,
        seed=first,
        device=where,
    ) as rows:
        joined = getattr(architecture, "name", architecture) == "crosscoder"
        inputs, targets = _roles(rows.sites, target is not None, joined)
        plan = plan_for(rows, inputs, targets, seed=seed, architecture=architecture, **options)
        if single:
            _refuse_several(plan)
        folder, header = None if to is None else Path(to), {}
        if folder is not None:
            header = header_of(plan, rows)
            done = give_back(folder, header)
            if done is not None:
                return done
            open_folder(folder, plan.names())
        _say_memory(plan, rows.device, progress)
        training = Training(plan, rows, folder)
        group = training.run(progress=progress)
        sample = dict(zip(rows.sites, rows.sample(STATISTICS, seed=first), strict=True))
        mixing = rows.effective_groups(plan.batch)
        about = rows.about
    saes = tuple(group.saes())
    table = finding(plan, training.history, about, mixing, resumed=training.first, started=started)
    for member, sae in enumerate(saes):
        sae.about |= about_of(plan, member, about)
        sae.statistics = _statistics(sample, plan.inputs[member])
        sae.history = table.of(member)
    if folder is not None:
        keep(folder, saes, plan.names(), header)
    return saes


def about_of(plan: Plan, member: int, rows: Mapping[str, Any]) -> dict[str, Any]:
    """Where a trained SAE comes from, as JSON values."""
    sites, targets = plan.inputs[member], plan.targets[member]
    return dict(rows) | {
        "site": ",".join(sites),
        "target": "" if targets == sites else ",".join(targets),
        "architecture": plan.architecture.name,
        "options": {name: values[member] for name, values in plan.option.items()},
        "scaling": plan.scaling,
        "tokens": plan.steps * plan.batch,
        "batch": plan.batch,
        "lr": plan.rates[member],
        "dead_after": plan.dead_after,
        "seed": plan.seeds[member],
    }


def _listed(site: int | str | Sequence[int | str] | None) -> list[int | str]:
    if site is None:
        return []
    return [site] if isinstance(site, int | str) else list(site)


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _refuse_several(plan: Plan) -> None:
    if plan.group == 1:
        return
    if len(set(plan.inputs)) > 1:
        raise ValueError(
            f"{plan.architecture.name} at several sites ({', '.join(plan.sites)}): pass "
            "architecture='crosscoder' for one dictionary of all of them, or call train_together "
            "for an SAE of each"
        )
    raise ValueError(
        f"train makes one SAE, and these options are for {plan.group} ({'; '.join(plan.names())}); "
        "call train_together"
    )


def _roles(sites: Sites, transcodes: bool, joined: bool) -> tuple[list[Sites], list[Sites]]:
    """Inputs and targets of each SAE per set of options, of the sites as they were found."""
    if transcodes:
        if len(sites) != 2:
            raise ValueError(
                f"a transcoder goes from one site to one other, these are {', '.join(sites)}"
            )
        return [(sites[0],)], [(sites[1],)]
    if joined:
        return [sites], [sites]
    each: list[Sites] = [(site,) for site in sites]
    return each, each


def _say_memory(plan: Plan, device: torch.device, progress: bool) -> None:
    """Say what will be needed; warn where it is not there."""
    needed = memory.of_plan(plan, device)
    if progress:
        print(f"memory: {needed}", file=sys.stderr)
    there = memory.free(device)
    if there is not None and needed.peak > there:
        warnings.warn(
            f"this training needs {needed}, and {megabytes(there)} are free; a smaller batch "
            f"({plan.batch:,} now) or width ({plan.latents:,}) needs less",
            stacklevel=4,
        )


def _statistics(sample: Mapping[str, Tensor], sites: Sites) -> Statistics:
    rows = torch.cat([sample[site] for site in sites], dim=1)
    return statistics_of(rows, ",".join(sites))
