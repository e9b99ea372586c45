"""`layerscope words`: how far apart word classes lie in each layer, and maps of the layers."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated, Any

import typer

from layerscope.cli.app import app
from layerscope.cli.choices import among
from layerscope.cli.inputs import loaded_or_store, sites, texts
from layerscope.cli.options import (
    AsJson,
    Device,
    GroupColumn,
    Label,
    Labelled,
    Layers,
    Limit,
    Out,
    Quiet,
    Seed,
    Source,
    TextColumn,
    Tokenizer,
    Twin,
)
from layerscope.cli.printing import print_table, show
from layerscope.cli.waiting import waiting

SHOWN = ("of", "site", "value", "ci_low", "ci_high", "relative", "null_sd", "twin")


@app.command()
def words(
    source: Source,
    data: Labelled = None,
    label: Label = None,
    of: Annotated[
        str,
        typer.Option(
            help="Class of the word after (next), of the word itself (current), both.",
            **among("--of", "both", "next", "current"),
        ),
    ] = "both",
    layers: Layers = "all",
    maps: Annotated[
        str,
        typer.Option(
            help="Maps to draw, comma-separated: pca, mds, umap, or none.",
            **among("--maps", "pca", "mds", "umap", "none", several=True),
        ),
    ] = "pca,mds,umap",
    per_class: Annotated[int, typer.Option(min=2, help="At most so many words of a class.")] = 300,
    keep: Annotated[
        bool, typer.Option("--punctuation", help="Keep punctuation, which is left out otherwise.")
    ] = False,
    twin: Twin = False,
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
    """Do hidden states cluster by the class of the next word, and of the current one?"""
    with waiting():
        from layerscope.analyses.word_classes import word_classes as measure

    options: dict[str, Any] = {"exclude": ()} if keep else {}
    finding = measure(
        loaded_or_store(source, data, device),
        None if data is None else texts(data, text, group, limit),
        sites(layers),
        label=label,
        of=of,  # type: ignore[arg-type]
        twin=twin,
        maps=[name.strip() for name in maps.split(",") if name.strip() not in ("", "none")],
        per_class=per_class,
        tokenizer=tokenizer,
        seed=seed,
        progress=not (quiet or as_json),
        **options,
    )
    if as_json:
        # Thousands of points are for the saved finding; programs are given what was measured.
        if out is not None:
            print(f"saved to {finding.save(out)}", file=sys.stderr)
        finding, out = replace(finding, table=finding.scores), None
    show(
        finding,
        out,
        as_json,
        lambda table: print_table(table[table["part"] == "gdv"], SHOWN),
    )
