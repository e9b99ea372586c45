"""`Recorder`: snapshots of any PyTorch model while it learns, from the user's own loop."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from layerscope.analyses.training.held_run import check_finite
from layerscope.analyses.training.noise import noise_of
from layerscope.analyses.training.row_labels import rows_of
from layerscope.analyses.training.run_folder import RunFolder
from layerscope.analyses.training.schedule import Schedule
from layerscope.analyses.training.snapshot import REDUCTIONS, Look, Loss, look
from layerscope.hooks.quiet import undisturbed
from layerscope.hooks.sites import resolve

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from layerscope.corpus import Samples

Layers = int | str | Sequence[int | str]
PROBED = 32
"""Rows on which it is seen where noise enters."""
SEVERAL = 60
"""Snapshots that an estimate of the space counts with, where their number is not known."""


class Recorder:
    """Keeps what a model's layers hold on fixed rows, at chosen steps of its training.

    ``recorder(step)`` in the training loop takes a snapshot when one is due. The model is left
    exactly as it was: mode, random state, gradients, hooks, device. Each snapshot is one file that
    is whole or not there, so that a killed training keeps what it has; the same call goes on in the
    folder. `open_run` reads it.

    Args:
        model: Any module; of a compiled one the module inside.
        inputs: The rows to look at, the same at every step: a tensor, several, a dict of them
            (keyword arguments), or `Samples`.
        labels: ``[rows]`` classes, or the name of a label of the `Samples`.
        layers: Sites or module paths, as `capture` takes them.
        to: Folder of the run, one for each training.
        at: ``"log"``: steps 0, 1, 2 ... 8 and then four in every doubling; a list of steps; None:
            every call. A snapshot is taken at the first call at or after each.
        reduce: Of feature maps and sequences: ``"mean"`` over positions, ``"flatten"``, ``"last"``
            or ``"first"`` position (of maps then the mean).
        loss: Such as ``torch.nn.functional.cross_entropy``: mean loss from output and labels, kept
            as score of the rows beside accuracy.
        split: What the rows are to the training: ``"test"`` or ``"train"``.
        groups: ``[rows]``: equal where rows belong together.
        classes: What the numbers in `labels` stand for.
        seed: The seed of this training, its name in the run; also of noise in the network, which is
            the same at every snapshot.
        clock: What a step counts: ``"step"`` or ``"epoch"``.
        noise: The noise in the network, in words; None looks for `GaussianNoise`.
        batch: Rows run at a time.
        most_bytes: A snapshot above it is refused.

    Raises:
        LookupError: a site that the model does not have.
        ValueError: snapshots too large, rows that do not fit, or a folder with another run.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        labels: Any,
        layers: Layers = "all",
        to: str | Path = "run",
        *,
        at: str | Sequence[int] | None = "log",
        reduce: str = "mean",
        loss: Loss | None = None,
        split: str = "test",
        groups: Any = None,
        classes: Sequence[str] | None = None,
        seed: int = 0,
        clock: str = "step",
        noise: str | None = None,
        batch: int = 256,
        most_bytes: int = 1 << 28,
    ) -> None:
        if reduce not in REDUCTIONS:
            raise ValueError(f"reduce={reduce!r}; there is {', '.join(REDUCTIONS)}")
        if split not in ("train", "test"):
            raise ValueError(f"split={split!r}: the rows are 'train' or 'test' rows")
        # What torch.compile wraps holds the same weights, and needs no new graph to be listened to.
        model = getattr(model, "_orig_mod", model)
        self.model, self.reduce, self.batch = model, reduce, batch
        self.loss, self.split, self.seed = loss, split, seed
        self._samples = _samples(inputs)
        self._rows = rows_of(
            _labels(self._samples, labels),
            inputs=_vector(self._samples),
            groups=groups,
            classes=classes,
        )
        if len(self._rows) != len(self._samples):
            raise ValueError(
                f"there are {len(self._samples):,} inputs, but {len(self._rows):,} labels"
            )
        with undisturbed(model):
            self._sites = resolve(model, layers)
        first = self._look(rows=1)
        widths = {site: parts[0].shape[1] for site, parts in first.activations.items()}
        self.snapshot_bytes = 4 * len(self._rows) * sum(widths.values())
        self._schedule = Schedule(at)
        self._refuse_large(widths, most_bytes)
        words = noise_of(model) if noise is None else noise
        self._folder = RunFolder(Path(to))
        self._folder.begin(
            {
                "name": type(model).__name__,
                "clock": clock,
                "noise": words,
                "noiseless": self._noiseless() if words else [],
                "seed": seed,
                "sites": widths,
                "reduce": reduce,
                "rows": _fingerprint(self._samples, self._rows.labels, self._rows.groups),
                "classes": list(self._rows.classes),
                "shape": list(self._rows.shape),
                "notes": _notes(first, reduce),
            },
            self._rows,
        )
        self._done = set(self._folder.steps())

    def __repr__(self) -> str:
        kept = f"{len(self._done)} snapshots of {len(self._sites)} sites, {len(self._rows):,} rows"
        return f"Recorder: {kept}; next: open_run({str(self._folder.path)!r})"

    def __call__(
        self,
        step: int,
        *,
        train_loss: float | None = None,
        train_accuracy: float | None = None,
        test_loss: float | None = None,
        test_accuracy: float | None = None,
    ) -> bool:
        """Take a snapshot if one is due; whether it was taken.

        Args:
            step: Of the training; 0 is before the first update.
            train_loss: Scores to keep with the snapshot; losses in nats per row.

        Raises:
            ValueError: activations that are NaN or infinite, or a folder that holds another training.
        """
        if step in self._done:
            self._confirm(step)
            return False
        if not self._schedule.due(step, max(self._done, default=None)):
            return False
        seen = self._look()
        activations = seen.joined()
        for site, x in activations.items():
            check_finite(x, step, site)
        scores = {
            "train": {"loss": train_loss, "accuracy": train_accuracy},
            "test": {"loss": test_loss, "accuracy": test_accuracy},
        }
        self._own_scores(seen, scores[self.split])
        lines = [
            {"split": name, **one}
            for name, one in scores.items()
            if any(value is not None for value in one.values())
        ]
        self._folder.keep(step, activations, lines)
        self._done.add(step)
        return True

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return self._folder.path

    @property
    def sites(self) -> tuple[str, ...]:
        """What is recorded, in forward order."""
        return self._sites

    def trainer_callback(self) -> TrainerCallback:
        """For ``transformers.Trainer(callbacks=[...])``: a snapshot at the start and where due."""
        from layerscope.analyses.training.trainer_callback import callback

        return callback(self)

    def _noiseless(self) -> list[str]:
        """Sites that are the same whatever the noise."""
        count = min(PROBED, len(self._rows))
        one, other = (self._look(rows=count, seed=self.seed + i).joined() for i in (0, 1))
        return [site for site, x in one.items() if torch.allclose(x, other[site], 1e-5, 1e-7)]

    def _look(self, *, rows: int | None = None, seed: int | None = None) -> Look:
        """All rows with their losses, or so many of the first."""
        from layerscope.corpus import Samples

        samples = self._samples
        if rows is not None:
            first = next(samples.batches(rows))
            samples = Samples(first.kwargs or first.args, mask=first.mask)
        return look(
            self.model,
            samples,
            self._sites,
            reduce=self.reduce,
            batch=self.batch,
            seed=self.seed if seed is None else seed,
            loss=self.loss if rows is None else None,
            labels=self._rows.labels,
        )

    def _own_scores(self, seen: Look, scores: dict[str, float | None]) -> None:
        if self.loss is None:
            return
        own = {"loss": sum(seen.losses) / len(self._rows)}
        if seen.classified:
            own["accuracy"] = seen.right / len(self._rows)
        for name, value in own.items():
            scores[name] = value if scores[name] is None else scores[name]

    def _confirm(self, step: int) -> None:
        """Refuse to go on in the folder of another training, at every step that both have.

        The first would not do: trainings of one seed begin alike.
        """
        for site, now in self._look().joined().items():
            then = self._folder.activations(step, site)
            apart = float((now - then).abs().max())
            if not apart <= 1e-3 * float(then.abs().max()) + 1e-6:
                raise ValueError(
                    f"{self.folder} holds another training: at step {step}, {site} differs by up to "
                    f"{apart:.3g}; give another folder, or continue that training from its weights"
                )

    def _refuse_large(self, widths: dict[str, int], most: int) -> None:
        if self.snapshot_bytes <= most:
            return
        widest = max(widths, key=lambda site: widths[site])
        count = self._schedule.count or SEVERAL
        raise ValueError(
            f"a snapshot would take {_size(self.snapshot_bytes)} ({len(self._rows):,} rows, "
            f"{sum(widths.values()):,} numbers each, {widths[widest]:,} of them at {widest}), "
            f"{count} of them {_size(count * self.snapshot_bytes)}; the limit for one is "
            f"{_size(most)}. Use reduce='mean', fewer rows or layers, or raise most_bytes"
        )


def _samples(inputs: Any) -> Samples:
    from layerscope.corpus import Samples

    return inputs if isinstance(inputs, Samples) else Samples(inputs)


def _labels(samples: Samples, labels: Any) -> Any:
    if not isinstance(labels, str):
        return labels
    if labels not in samples.labels:
        raise LookupError(
            f"no label {labels!r} in {samples.name!r}; it has {', '.join(samples.labels) or 'none'}"
        )
    return samples.labels[labels]


def _vector(samples: Samples) -> Tensor | None:
    """The one input of the model, where it is a floating-point tensor."""
    parts = [(*batch.args, *batch.kwargs.values()) for batch in samples.batches(len(samples))]
    floats = [[x for x in part if x.is_floating_point()] for part in parts]
    return torch.cat([xs[0] for xs in floats]) if all(len(xs) == 1 for xs in floats) else None


def _fingerprint(samples: Samples, *others: Tensor | None) -> str:
    digest = hashlib.sha256(samples.fingerprint.encode())
    for one in others:
        digest.update(b"none" if one is None else one.numpy().tobytes())
    return digest.hexdigest()


def _notes(first: Look, reduce: str) -> list[str]:
    wide = [site for site, shape in first.shapes.items() if len(shape) > 1]
    if not wide:
        return []
    named = f"{', '.join(wide[:6])}{f' and {len(wide) - 6} more' if len(wide) > 6 else ''}"
    kept = {
        "mean": "the mean over positions",
        "flatten": "all positions side by side",
        "last": "the last position (of feature maps the mean)",
        "first": "the first position (of feature maps the mean)",
    }[reduce]
    return [f"of feature maps and sequences at {named}, {kept} was kept"]


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
