"""`train` and `train_together`: sparse autoencoders from a store, a running model, or tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from layerscope.analyses.sae.architectures.architecture import Architecture
from layerscope.analyses.sae.fitting.run import run
from layerscope.analyses.sae.rows.source import Rows
from layerscope.analyses.sae.sae import SAE

if TYPE_CHECKING:
    from layerscope.store import Store

    Data = Store | str | Path | Tensor | Mapping[str, Tensor] | nn.Module | Rows


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
    (sae,) = run(
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
    return run(
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
