"""`layerscope geometry` and `layerscope similarity`: the shape of layers, and how alike they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerscope.cli import checks
from layerscope.cli.app import app
from layerscope.cli.choices import among
from layerscope.cli.completing import stores
from layerscope.cli.inputs import loaded, loaded_or_store, sites, texts, usable
from layerscope.cli.options import (
    DATA,
    FORMATS,
    AsJson,
    Device,
    GroupColumn,
    Layers,
    Limit,
    Out,
    Quiet,
    Rows,
    Seed,
    Source,
    TextColumn,
    Tokenizer,
    Twin,
)
from layerscope.cli.printing import print_table, show
from layerscope.cli.waiting import waiting

if TYPE_CHECKING:
    import pandas as pd

SHAPE = ("site", "measure", "value", "ci_low", "ci_high", "null_mean", "isotropic", "twin")
TOLD = ("participation_ratio", "effective_rank", "top_share", "twonn", "cosine", "cosine_centred")
"""Measures that a terminal has room for."""
MEASURES = (
    "cka",
    "cka_biased",
    "cka_minibatch",
    "cka_rbf",
    "rsa",
    "rsa_cosine",
    "knn",
    "cca",
    "svcca",
    "pwcca",
    "procrustes",
    "shape_angle",
    "ridge",
)
"""Offered by the shell."""


@app.command()
def geometry(
    source: Source,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help=f"Texts, for a model; default: the bundled ones. {FORMATS}.",
            callback=checks.texts,
        ),
    ] = None,
    layers: Layers = "all",
    twin: Twin = False,
    neighbour_rows: Annotated[
        int, typer.Option(min=100, help="At most so many rows for the TwoNN dimension.")
    ] = 5000,
    seed: Seed = 0,
    rows: Rows = None,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    group: GroupColumn = None,
    limit: Limit = None,
    out: Out = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Dimension, spectrum and anisotropy of every layer, beside what independent features give."""
    with waiting():
        from layerscope.analyses.geometry import geometry as measure

    finding = measure(
        loaded_or_store(source, data, device),
        None if data is None else texts(data, text, group, limit),
        sites(layers),
        twin=twin,
        rows=rows,
        neighbour_rows=neighbour_rows,
        tokenizer=tokenizer,
        device=device,
        seed=seed,
        progress=not (quiet or as_json),
    )
    show(finding, out, as_json, _shapes)


@app.command()
def similarity(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A model, or a folder that dump wrote.",
            autocompletion=stores,
        ),
    ],
    b: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="B...",
            help="Another one; with more, all are checkpoints of a run, in order, and each layer is "
            "compared with itself in the last.",
            autocompletion=stores,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help=f"Texts, for models; default: the bundled ones. {FORMATS}.",
            callback=checks.texts,
            rich_help_panel=DATA,
        ),
    ] = None,
    layers: Layers = "all",
    measures: Annotated[
        str,
        typer.Option(
            help="Comma-separated, such as cka,procrustes,ridge; or all.",
            **among("--measures", "all", *MEASURES, several=True),
        ),
    ] = "cka,cka_biased,rsa,knn",
    max_rows: Annotated[int, typer.Option(min=5, help="At most so many rows, at random.")] = 2000,
    twin: Annotated[
        bool, typer.Option("--twin", help="With one model: its untrained copy as well.")
    ] = False,
    seed: Seed = 0,
    rows: Rows = None,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    group: GroupColumn = None,
    limit: Limit = None,
    out: Out = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """How alike layers are: within a model, between two, or over the checkpoints of a run."""
    with waiting():
        from layerscope.analyses.similarity import similarity as measure

    _refuse_texts([a, *(b or [])], data)
    others = [_given(one, device) for one in b or []]
    first = _given(a, device)
    several = [first, *others] if len(others) > 1 else None
    finding = measure(
        several or first,
        others[0] if len(others) == 1 else None,
        None if data is None else texts(data, text, group, limit),
        sites(layers),
        measures="all" if measures == "all" else [name.strip() for name in measures.split(",")],
        twin=twin,
        rows=rows,
        max_rows=max_rows,
        tokenizer=tokenizer,
        device=device,
        seed=seed,
        progress=not (quiet or as_json),
    )
    show(finding, out, as_json, _maps)


def _refuse_texts(given: list[str], data: str | None) -> None:
    """A file of texts among the models, before any of them is loaded."""
    from layerscope.analyses.resemblance.sides import is_texts

    for name in given:
        if is_texts(name):
            hint = "" if data else f"; did you mean --data {name}?"
            raise ValueError(f"{name} is a file of texts, not a model or a store{hint}")


def _given(name: str, device: str | None) -> Any:
    """A folder with a store stays a path; anything else is a model."""
    if (Path(name) / "store.json").is_file():
        usable(device)
        return Path(name)
    return loaded(name, device)


def _shapes(table: pd.DataFrame) -> None:
    lines = table[(table["part"] == "measure") & table["measure"].isin(TOLD)]
    print_table(lines, SHAPE)


def _maps(table: pd.DataFrame) -> None:
    """One matrix for each measure: layers downwards; layers, or checkpoints, to the right."""
    across = "a" if table["part"].iloc[0] == "steps" else "other_site"
    for measure, lines in table.groupby("measure", sort=False):
        columns = list(dict.fromkeys(lines[across]))
        matrix = lines.pivot(index="site", columns=across, values="value")
        matrix = matrix.loc[list(dict.fromkeys(lines["site"])), columns]
        matrix.columns = [_short(name) for name in columns]
        matrix.insert(0, str(measure), [_short(site) for site in matrix.index])
        print_table(matrix, list(matrix.columns))


def _short(site: str) -> str:
    """``blocks.3.resid_post`` as ``3``."""
    return site.removeprefix("blocks.").removesuffix(".resid_post")
