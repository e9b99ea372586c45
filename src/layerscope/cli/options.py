"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerscope.cli import checks, completing

DATA = "Data and layers"
RUNNING = "Running"
OUTPUT = "Output"

FORMATS = (
    ".txt .conllu .jsonl .json .csv .tsv .parquet .py (each also .gz), or a folder of one kind"
)
"""Files of texts, as `read` takes them."""

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Model folder, hub name, or file.py:function.",
        callback=checks.model,
        autocompletion=completing.stores,
    ),
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_OR_STORE",
        help="Model folder, hub name or file.py:function; or a folder that dump wrote.",
        callback=checks.source,
        autocompletion=completing.stores,
    ),
]
Labelled = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        help=f"Labelled texts, for a model; default: the bundled ones. {FORMATS}.",
        callback=checks.texts,
    ),
]
Layers = Annotated[
    str,
    typer.Option(
        "--layers",
        "--layer",
        help="Sites, comma-separated: numbers of blocks (-1 is the last), 'all', 'embed', patterns "
        "such as 'blocks.*.mlp_out', module paths.",
        autocompletion=completing.layers,
        rich_help_panel=DATA,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        help="Class label to read; default: the only one, or upos.",
        autocompletion=completing.labels,
        rich_help_panel=DATA,
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        help="Tokenizer folder or name; default: the model's own.",
        autocompletion=completing.stores,
        rich_help_panel=DATA,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Of the stored numbers: float32, bfloat16, float16; default: as the model computes.",
        autocompletion=completing.one_of("float32", "bfloat16", "float16"),
        rich_help_panel=OUTPUT,
    ),
]
Rows = Annotated[
    str | None,
    typer.Option(
        help="What a row is: tokens, words, texts:mean, texts:last or texts:first.",
        autocompletion=completing.one_of(
            "tokens", "words", "texts:mean", "texts:last", "texts:first"
        ),
        rich_help_panel=DATA,
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        help="Column that holds the text, for tables; for .txt: line, paragraph or document.",
        rich_help_panel=DATA,
    ),
]
GroupColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of what must not straddle a split, such as the document.",
        rich_help_panel=DATA,
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Only the first N texts.", rich_help_panel=DATA)
]
Device = Annotated[
    str | None,
    typer.Option(help="Such as 'cuda'; default: where the model loads.", rich_help_panel=RUNNING),
]
Seed = Annotated[int, typer.Option(help="Of everything random.", rich_help_panel=RUNNING)]
Twin = Annotated[
    bool,
    typer.Option(
        "--twin",
        help="Measure an untrained copy of the model as well: what the training added.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress bars.", rich_help_panel=RUNNING)
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder to save the finding in, for `layerscope report`.",
        callback=checks.folder,
        rich_help_panel=OUTPUT,
    ),
]
Page = Annotated[
    Path, typer.Option(help="The HTML file to write.", callback=checks.page, rich_help_panel=OUTPUT)
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON for programs.", rich_help_panel=OUTPUT)
]
Open = Annotated[
    bool, typer.Option("--open", help="Show the page in the browser.", rich_help_panel=OUTPUT)
]
