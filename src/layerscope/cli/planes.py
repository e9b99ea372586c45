"""`layerscope plane`: what layers keep about input and label while a network learns."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerscope.cli.app import app
from layerscope.cli.completing import one_of, stores
from layerscope.cli.inputs import sites
from layerscope.cli.options import (
    FORMATS,
    AsJson,
    Label,
    Layers,
    Limit,
    Out,
    Quiet,
    Seed,
    TextColumn,
    Tokenizer,
)
from layerscope.cli.printing import print_table, show
from layerscope.cli.waiting import waiting

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.analyses.training.training_run import TrainingRun

PATH = ("site", "estimator", "resolution", "step", "x", "y", "ceiling_x", "ceiling_y", "null_y")
TRAINED = "Networks that are trained here"
MOST_STEPS = 4
"""Snapshots that the terminal shows."""


def _sources(incomplete: str) -> list[str]:
    return [*one_of("bits", "digits")(incomplete), *stores(incomplete)]


@app.command()
def plane(
    source: Annotated[
        str,
        typer.Argument(
            metavar="TASK_OR_FOLDER",
            help="bits (the 12-bit task of 2017), digits (scikit-learn's), a folder of checkpoints, "
            "or a folder that a Recorder wrote.",
            autocompletion=_sources,
        ),
    ] = "bits",
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help=f"Labelled texts, for checkpoints; default: the bundled ones. {FORMATS}.",
        ),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            help="tanh, relu or linear; default: tanh.",
            autocompletion=one_of("tanh", "relu", "linear"),
            rich_help_panel=TRAINED,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Networks to train at once; default: 8.", rich_help_panel=TRAINED),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Default: 8,000 for bits, 1,000 for digits.", rich_help_panel=TRAINED
        ),
    ] = None,
    noise: Annotated[
        float,
        typer.Option(
            min=0, help="Sd of Gaussian noise inside the networks.", rich_help_panel=TRAINED
        ),
    ] = 0.0,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the snapshots; a second call goes on there.", rich_help_panel=TRAINED
        ),
    ] = None,
    label: Label = None,
    layers: Layers = "all",
    estimators: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: binned, kde, noisy, lossy; default: binned,kde and, with "
            "--noise, noisy.",
            autocompletion=one_of("binned", "kde", "noisy", "lossy"),
        ),
    ] = None,
    bins: Annotated[
        str | None,
        typer.Option(help="Comma-separated: numbers of bins (30), or widths of bins (0.07)."),
    ] = None,
    sigmas: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: sd of noise in the measurement (0.03), or parts of the range (64)."
        ),
    ] = None,
    unit: Annotated[
        str, typer.Option(help="bits or nats.", autocompletion=one_of("bits", "nats"))
    ] = "bits",
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    limit: Limit = None,
    out: Out = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Follow every layer through the information plane while a network learns.

    Without a folder, small networks are trained on the spot, which takes a minute.
    """
    with waiting():
        from layerscope.analyses.information_plane import information_plane
        from layerscope.analyses.training.recorded_run import RecordedRun
        from layerscope.analyses.training.small_tasks import TASKS
    progress = not (quiet or as_json)
    # Before the training, which takes minutes: a slip should not cost them.
    how = _how(estimators, bins, sigmas, unit, noise)
    layer = sites(layers)
    if source in TASKS:
        _refuse_texts(source, data, label, limit)
        run: TrainingRun = _trained(
            source, activation or "tanh", seeds or 8, epochs, noise, keep, layer, progress
        )
    else:
        _check_folder(source, list(TASKS))
        _refuse_training(source, activation, seeds, epochs, noise, keep)
        run = _recorded(source, data, label, layers, text, limit, tokenizer, seed, progress)
        layer = layer if isinstance(run, RecordedRun) else "all"  # checkpoints were read at them
    finding = information_plane(run, layer=layer, seed=seed, progress=progress, **how)
    show(finding, out, as_json, _paths)


def _how(
    estimators: str | None, bins: str | None, sigmas: str | None, unit: str, noise: float
) -> dict[str, Any]:
    """What `information_plane` is asked for, checked."""
    from layerscope.analyses.information_plane import check_choices

    default = "binned,kde,noisy" if noise else "binned,kde"
    names = [name.strip() for name in (estimators or default).split(",")]
    numbers = {"bins": _numbers(bins, "--bins"), "sigmas": _numbers(sigmas, "--sigmas")}
    found = {name: value for name, value in numbers.items() if value is not None}
    check_choices(names, unit, **found)
    return {"estimators": names, "unit": unit, **found}


def _trained(
    name: str,
    activation: str,
    seeds: int,
    epochs: int | None,
    noise: float,
    keep: Path | None,
    layer: Any,
    progress: bool,
) -> TrainingRun:
    from layerscope.analyses.planes.asked import sites_among
    from layerscope.analyses.training.small_net_shape import Shape
    from layerscope.analyses.training.small_nets import train_small_nets
    from layerscope.analyses.training.small_tasks import TASKS

    task = TASKS[name]()
    sites_among(Shape((1, *task.widths, 2), activation).sites, layer)
    return train_small_nets(
        task.inputs,
        task.labels,
        widths=task.widths,
        activation=activation,
        seeds=seeds,
        epochs=epochs or task.epochs,
        lr=task.lr,
        noise=noise,
        name=f"{name}, {activation}",
        to=keep,
        progress=progress,
    )


def _recorded(
    source: str,
    data: str | None,
    label: str | None,
    layers: str,
    text: str | None,
    limit: int | None,
    tokenizer: str | None,
    seed: int,
    progress: bool,
) -> TrainingRun:
    from layerscope.analyses.training.checkpoint_run import checkpoint_run
    from layerscope.analyses.training.recorded_run import open_run
    from layerscope.cli.inputs import texts
    from layerscope.corpus import bundled

    folder = Path(source)
    if (folder / "run.json").is_file() or any(folder.glob("*/run.json")):
        _refuse_texts(source, data, label, limit)
        return open_run(folder)
    own = bundled() if limit is None else bundled().take(limit)
    return checkpoint_run(
        folder,
        own if data is None else texts(data, text, None, limit),
        label,
        layers=sites(layers),
        tokenizer=tokenizer,
        seed=seed,
        progress=progress,
    )


def _refuse_texts(source: str, data: str | None, label: str | None, limit: int | None) -> None:
    if data or label or limit:
        given = f"the texts {data}" if data else f"--label {label}" if label else f"--limit {limit}"
        raise ValueError(f"{source} has rows and labels of its own; leave out {given}")


def _check_folder(source: str, tasks: list[str]) -> None:
    if Path(source).is_dir():
        return
    if Path(source).is_file():
        raise NotADirectoryError(
            f"{source} is a file; give bits, digits, a folder of checkpoints or a recorded run"
        )
    near = get_close_matches(source, tasks, n=1)
    meant = f"did you mean {near[0]}? Else give" if near else "give bits, digits,"
    raise FileNotFoundError(
        f"no folder {source}; {meant} a folder of checkpoints or a recorded run"
    )


def _refuse_training(
    source: str,
    activation: str | None,
    seeds: int | None,
    epochs: int | None,
    noise: float,
    keep: Path | None,
) -> None:
    given = {
        "--activation": activation,
        "--seeds": seeds,
        "--epochs": epochs,
        "--noise": noise,
        "--keep": keep,
    }
    said = [name for name, value in given.items() if value]
    if said:
        raise ValueError(f"{source} is already trained; {', '.join(said)} goes with bits or digits")


def _numbers(text: str | None, option: str) -> list[float | int] | None:
    """Whole numbers stay whole: they mean something else than fractions."""
    if text is None:
        return None
    try:
        return [float(one) if "." in one or "e" in one else int(one) for one in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} {text}: give numbers with commas between them") from None


def _paths(table: pd.DataFrame) -> None:
    """Mean over seeds at a few snapshots, at the middle resolution of each layer."""
    for _, lines in table.groupby("estimator", sort=False):
        lines = lines.fillna({"resolution": 0.0})  # what was compressed has none
        middle = lines[
            lines["resolution"] == lines.groupby("site")["resolution"].transform(_middle)
        ]
        steps = sorted(middle["step"].unique())
        shown = {steps[round(i * (len(steps) - 1) / (MOST_STEPS - 1))] for i in range(MOST_STEPS)}
        means = (
            middle[middle["step"].isin(shown)]
            .groupby(["layer", "site", "estimator", "resolution", "step"], as_index=False)
            .mean(numeric_only=True)
        )
        print_table(means, PATH)


def _middle(resolutions: pd.Series) -> float:
    several = sorted(set(resolutions))
    return float(several[len(several) // 2])
