"""`layerscope lens`: what every layer would say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerscope.cli.app import app
from layerscope.cli.completing import one_of
from layerscope.cli.inputs import is_there, loaded, texts
from layerscope.cli.options import (
    FORMATS,
    OUTPUT,
    AsJson,
    Device,
    GroupColumn,
    Limit,
    Model,
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

    from layerscope.finding import Finding


@app.command()
def lens(
    model: Model,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT_OR_FILE",
            help="A text to be shown token by token, or a file of texts to be measured "
            f"({FORMATS}); default: the bundled sentences.",
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="logit, tuned, affine, comma-separated, or the file of a lens kept before.",
            autocompletion=one_of("logit", "tuned", "affine"),
        ),
    ] = "logit",
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Keep the tuned or affine lens, fitted on all of DATA, here.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Length of lists of likeliest tokens.")] = 5,
    twin: Annotated[
        bool, typer.Option("--twin/--no-twin", help="Measure an untrained copy as well.")
    ] = True,
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    group: GroupColumn = None,
    limit: Limit = None,
    out: Out = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Read every layer through the model's own head: what would be said if it stopped there?"""
    with waiting():
        from layerscope.analyses.lens import lens as measure
        from layerscope.analyses.lens_tokens import LensTokensFinding, lens_tokens
        from layerscope.analyses.lenses.lens_fitting import fit_lens
        from layerscope.analyses.lenses.translators import AffineLens

    names = [part.strip() for part in kind.split(",") if part.strip()]
    of_texts = data is None or is_there(data)
    kept = {name for name in names if is_there(name) and Path(name).is_file()}
    network = loaded(model, device)
    progress = not (quiet or as_json)
    kinds: list[Any] = [AffineLens.load(name) if name in kept else name for name in names]
    finding: Finding
    if of_texts:
        corpus = None if data is None else texts(data, text, group, limit)
        if keep is not None:
            fitted = fit_lens(
                network, corpus, kind=kinds[-1], tokenizer=tokenizer, seed=seed, progress=progress
            )
            print(f"lens kept in {fitted.save(keep)}", file=sys.stderr)
        finding = measure(
            network,
            corpus,
            kind=kinds,
            k=top,
            twin=twin,
            limit=limit,
            tokenizer=tokenizer,
            seed=seed,
            progress=progress,
        )
    else:
        finding = lens_tokens(
            network, data, kind=kinds[0], k=top, tokenizer=tokenizer, seed=seed, progress=progress
        )
    show(
        finding,
        out,
        as_json,
        _print_words if isinstance(finding, LensTokensFinding) else _print_layers,
    )


def _print_layers(table: pd.DataFrame) -> None:
    """KL and agreement of each lens by layer; `--json` has everything."""
    short = {"kl_final_lens": "KL", "agreement": "agrees"}
    wide = table[table["measure"].isin(short)].pivot(
        index=["layer", "site"], columns=["lens", "measure"], values="value"
    )
    shown = [(lens, measure) for lens in dict.fromkeys(table["lens"]) for measure in short]
    wide = wide[shown]
    names = [f"{lens} {short[measure]}" for lens, measure in shown]
    print_table(wide.set_axis(names, axis=1).reset_index(), ["site", *names])


def _print_words(table: pd.DataFrame) -> None:
    """The layers' first choices, a line for each token; as many layers as a terminal has room for."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from layerscope.analyses.material.pieces import shown

    layers = sorted(set(table["layer"]))
    layers = sorted({layers[round(i * (len(layers) - 1) / 8)] for i in range(9)})
    drawn = Table("after", *("embed" if n < 0 else str(n) for n in layers))
    for _, lines in table.groupby("position"):
        words = dict(zip(lines["layer"], lines["prediction"], strict=True))
        token = escape(shown(lines["token"].iloc[0]))
        drawn.add_row(token, *(escape(shown(words[n], 9)) for n in layers))
    Console().print(drawn)
