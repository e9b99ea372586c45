"""Many small classifiers trained at once, as one batched model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from layerscope.analyses.training.schedule import log_spaced
from layerscope.analyses.training.small_net_folder import SmallNetFolder
from layerscope.analyses.training.small_net_run import SmallNetRun, Split, score_frame
from layerscope.analyses.training.small_net_shape import Shape
from layerscope.analyses.training.small_net_training import Networks, Recipe, train
from layerscope.analyses.training.training_run import Rows
from layerscope.probes.solving.parallel import side_by_side

OPTIMISERS = ("adam", "sgd")
TEAM = 16
"""Networks of one batched product at most: what they have in work fits into a core's cache."""


def train_small_nets(
    inputs: Tensor,
    labels: Tensor,
    *,
    widths: Sequence[int] = (10, 7, 5, 4, 3),
    activation: str = "tanh",
    seeds: int | Sequence[int] = 8,
    epochs: int = 8000,
    batch: int = 512,
    lr: float = 4e-4,
    optimiser: str = "adam",
    momentum: float = 0.9,
    weight_decay: float | Sequence[float] = 0.0,
    noise: float = 0.0,
    train_share: float = 0.8,
    steps: Sequence[int] | None = None,
    order_seed: int = 0,
    name: str | None = None,
    to: str | Path | None = None,
    progress: bool = True,
) -> SmallNetRun:
    """Trains fully connected classifiers of one shape, all seeds in one batched product.

    The defaults are those of the 12-bit networks of Shwartz-Ziv and Tishby (2017). The networks
    differ in initial weights and in the rows they train on; a network among others is trained as
    it would be alone. Runs on the device of the inputs.

    Args:
        inputs: ``[rows, features]``, or ``[seeds, rows, features]`` where each network has its own.
        labels: ``[rows]`` whole numbers from 0, or ``[seeds, rows]``.
        widths: Of the hidden layers.
        activation: ``"tanh"``, ``"relu"`` or ``"linear"``.
        seeds: How many networks, or the seed of each.
        weight_decay: L2 penalty added to the gradient, of all or of each network.
        noise: Sd of the Gaussian noise added to every hidden layer, in training and afterwards.
        train_share: Share of the rows to train on; the others are the test rows.
        steps: Epochs after which snapshots are taken; None: about 60, evenly in the logarithm.
        order_seed: Decides the order of batches, which the networks share, and the noise.
        to: A folder where the snapshots are kept; the same call goes on from what is there.

    Raises:
        ValueError: labels of one class, shapes that do not fit, NaN, or a training that diverged.
    """
    seed_list = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(s) for s in seeds)
    x, y = _material(inputs, labels, len(seed_list))
    classes = int(y.max()) + 1
    shape = Shape((x.shape[2], *map(int, widths), classes), activation)
    if optimiser not in OPTIMISERS:
        raise ValueError(f"no optimiser {optimiser!r}; there are {', '.join(OPTIMISERS)}")
    if batch < 1 or epochs < 0 or noise < 0:
        raise ValueError(f"batch={batch}, epochs={epochs}, noise={noise}: none may be negative")
    at = log_spaced(epochs) if steps is None else tuple(sorted({int(one) for one in steps}))
    if not at or at[0] < 0 or at[-1] > epochs:
        raise ValueError(f"steps={steps}: snapshots are taken after 0 to {epochs} epochs")
    recipe = Recipe(batch, lr, optimiser, momentum, noise, order_seed)
    split = Split.of(seed_list, x.shape[1], train_share)
    decay = _each(weight_decay, len(seed_list)).to(x.device)
    teams = _teams(seed_list, (x, y), shape, split, decay)
    folder = None
    if to is not None:
        key: dict[str, object] = {
            "shape": repr(shape),
            "recipe": repr(recipe),
            "seeds": list(seed_list),
            "weight_decay": decay.flatten().tolist(),
            "train_share": train_share,
            "material": _fingerprint(x, y),
            "teams": len(teams),
        }
        folder = SmallNetFolder.open(Path(to), key)
    weights = _train_teams(teams, shape, recipe, at, folder, progress)
    for epoch, flat in zip(at, weights, strict=True):
        if not bool(flat.isfinite().all()):
            raise ValueError(f"the weights are not finite at epoch {epoch}; lower lr={lr}")
    shared = inputs.dim() == 2 and labels.dim() == 1
    names = tuple(str(c) for c in range(classes))
    rows = Rows(y[0], names, x[0] if shared else None, shared=shared)
    run = SmallNetRun(
        name=name or f"{activation} {'-'.join(map(str, shape.widths))}",
        rows=rows,
        steps=at,
        seeds=seed_list,
        sites=shape.sites,
        clock="epoch",
        noise=f"Gaussian noise of sd {noise:g} added to every hidden layer" if noise else "",
        shape=shape,
        snapshots=weights,
        inputs=x,
        targets=y,
        split=split,
        noise_sd=noise,
        noise_seed=order_seed,
    )
    return run.with_scores(score_frame(run))


def _material(inputs: Tensor, labels: Tensor, networks: int) -> tuple[Tensor, Tensor]:
    """``[networks, rows, features]`` float32 and ``[networks, rows]`` int64, both checked."""
    if networks < 1:
        raise ValueError("no seeds: give at least one")
    x, y = torch.as_tensor(inputs).float(), torch.as_tensor(labels)
    y = y.to(x.device)
    if y.is_floating_point() or bool((y < 0).any()):
        raise ValueError("labels are whole numbers from 0")
    x = x.expand(networks, *x.shape) if x.dim() == 2 else x
    y = y.long().expand(networks, *y.shape) if y.dim() == 1 else y.long()
    if x.dim() != 3 or y.dim() != 2 or x.shape[:2] != y.shape or len(x) != networks:
        raise ValueError(
            f"inputs {tuple(inputs.shape)} and labels {tuple(labels.shape)} do not fit {networks} "
            "networks: give [rows, features] and [rows], or one of each for every network"
        )
    if not bool(x.isfinite().all()):
        row = int((~x.isfinite().all(2)).nonzero()[0, 1])
        raise ValueError(f"the inputs are not finite at row {row}")
    if int(y.min()) == int(y.max()):
        raise ValueError(f"all {y.shape[1]} rows have label {int(y[0, 0])}: nothing can be learnt")
    return x, y


def _each(value: float | Sequence[float], networks: int) -> Tensor:
    """``[networks, 1]``"""
    every = [float(value)] * networks if isinstance(value, (int, float)) else list(value)
    if len(every) != networks:
        raise ValueError(f"{len(every)} weight decays for {networks} networks")
    return torch.tensor(every)[:, None]


def _teams(
    seeds: tuple[int, ...],
    material: tuple[Tensor, Tensor],
    shape: Shape,
    split: Split,
    decay: Tensor,
) -> list[Networks]:
    """The networks in teams that train side by side: two on a CPU, or more of at most `TEAM`."""
    x, y = material
    data = torch.cat([x, torch.nn.functional.one_hot(y, shape.widths[-1]).float()], dim=2)
    data = torch.stack([one[rows] for one, rows in zip(data, split.train, strict=True)])
    size = len(seeds) if x.is_cuda else min(TEAM, -(-len(seeds) // 2))
    parts = zip(data.split(size), decay.split(size), strict=True)
    return [Networks(seeds[i * size : (i + 1) * size], *part) for i, part in enumerate(parts)]


def _train_teams(
    teams: list[Networks],
    shape: Shape,
    recipe: Recipe,
    at: tuple[int, ...],
    folder: SmallNetFolder | None,
    progress: bool,
) -> Tensor:
    """``[snapshots, networks, parameters]``"""
    from tqdm.auto import tqdm

    total = len(teams) * at[-1]
    with tqdm(
        total=total, desc="training", unit="epoch", disable=not progress, mininterval=0.5
    ) as bar:
        work = partial(train, shape=shape, recipe=recipe, at=at, folder=folder, tick=bar.update)
        found = list(side_by_side(work, teams, item_bytes=1e6))
    return torch.cat(found, dim=1)


def _fingerprint(x: Tensor, y: Tensor) -> str:
    found = hashlib.sha256()
    for one in (x, y):
        found.update(one.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
