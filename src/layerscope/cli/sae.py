"""`layerscope sae`: train sparse autoencoders, measure them, look at their latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerscope.cli import checks, completing
from layerscope.cli.app import HELP_NAMES, app
from layerscope.cli.choices import among
from layerscope.cli.front import Front
from layerscope.cli.inputs import loaded, loaded_or_store, sites, texts
from layerscope.cli.options import (
    DATA,
    FORMATS,
    AsJson,
    Device,
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


MEASURES = ("measure", "value", "ci_low", "ci_high", "random", "pca", "n", "unit")
LATENTS = ("latent", "density", "max", "top_token", "class", "score", "null", "nearest", "up")

sae = typer.Typer(
    help="Sparse autoencoders: train, measure, look at their latents.",
    cls=Front,
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)
app.add_typer(sae, name="sae")

Trained = Annotated[
    str,
    typer.Argument(
        metavar="SAE", help="Folder or file of an SAE: ours, SAELens', and of most libraries."
    ),
]
RowSource = Annotated[
    str,
    typer.Argument(
        metavar="STORE_OR_MODEL",
        help="What dump wrote, or a model.",
        callback=checks.source,
        autocompletion=completing.stores,
    ),
]
Texts = Annotated[
    str | None,
    typer.Argument(metavar="DATA", help=f"Texts, for a model. {FORMATS}.", callback=checks.texts),
]
Site = Annotated[
    str | None,
    typer.Option(
        help="What the SAE reads; default: where it was trained.",
        autocompletion=completing.layers,
        rich_help_panel=DATA,
    ),
]
Seen = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The model itself: cross-entropy, or logit effects.",
        callback=checks.model,
        autocompletion=completing.stores,
    ),
]


@sae.command("eval")
def evaluate(
    trained: Trained,
    source: RowSource,
    data: Texts = None,
    site: Site = None,
    model: Seen = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="A label of the store: sparse probing.",
            autocompletion=completing.labels,
            rich_help_panel=DATA,
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=2, help="At most so many rows.")] = 1_000_000,
    tokens: Annotated[
        int, typer.Option(min=1, help="Tokens that the model reads for its cross-entropy.")
    ] = 100_000,
    no_baselines: Annotated[
        bool, typer.Option("--no-baselines", help="Without random dictionary and PCA.")
    ] = False,
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    limit: Limit = None,
    out: Out = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure an SAE: reconstruction, sparsity, norms, directions, and what the model loses."""
    with waiting():
        from layerscope.analyses.sae.evaluate import evaluate as measure
        from layerscope.analyses.sae.formats.save_load import load

    finding = measure(
        load(trained),
        loaded_or_store(source, data, device) if data is None else loaded(source, device),
        site=None if site is None else sites(site),  # type: ignore[arg-type]
        model=None if model is None else loaded(model, device),
        corpus=None if data is None else texts(data, text, None, limit),
        tokenizer=tokenizer,
        label=label,
        rows=rows,
        tokens=tokens,
        baselines=not no_baselines,
        seed=seed,
        progress=not (quiet or as_json),
    )
    show(finding, out, as_json, _print_measures)


@sae.command()
def features(
    trained: Trained,
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE",
            help="What dump wrote.",
            callback=checks.store,
            autocompletion=completing.stores,
        ),
    ],
    site: Site = None,
    model: Seen = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="A label of the store: the class each latent tells best.",
            autocompletion=completing.labels,
            rich_help_panel=DATA,
        ),
    ] = None,
    latents: Annotated[
        str | None, typer.Option(help="Only these, comma-separated, in this order.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Strongest examples of each latent.")] = 8,
    shown: Annotated[int, typer.Option(min=0, help="Latents on the report's page.")] = 24,
    layout: Annotated[
        str,
        typer.Option(
            help="Map of the directions: umap, pca or none.",
            **among("--layout", "umap", "pca", "none"),
        ),
    ] = "umap",
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    out: Out = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Look at the latents of an SAE; with --out, `layerscope report` makes their page."""
    with waiting():
        from layerscope.analyses.sae.features import features as look
        from layerscope.analyses.sae.formats.save_load import load
        from layerscope.store import Store

    finding = look(
        load(trained),
        Store.open(store),
        site=None if site is None else sites(site),  # type: ignore[arg-type]
        model=None if model is None else loaded(model, device),
        label=label,
        latents=numbers(latents, "--latents", int),
        top=top,
        shown=shown,
        layout=layout,
        tokenizer=tokenizer,
        seed=seed,
        progress=not (quiet or as_json),
    )
    show(finding, out, as_json, _print_latents)


def _print_latents(table: pd.DataFrame) -> None:
    """Those on the report's page, in its order; the first ones where there is no page."""
    paged = table.dropna(subset="place").sort_values("place")
    print_table((paged if len(paged) else table).head(20), LATENTS)


def _print_measures(table: pd.DataFrame) -> None:
    """Without the points of the figure, of which a measure has many."""
    print_table(table[~table["measure"].duplicated(keep=False)], MEASURES)


def numbers(text: str | None, option: str, kind: type) -> list[Any] | None:
    """Numbers with commas between them.

    Raises:
        ValueError: something else.
    """
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",") if part.strip()] or None
    except ValueError:
        whole = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{option} {text}: give {whole}, comma-separated, such as 16,32") from None
