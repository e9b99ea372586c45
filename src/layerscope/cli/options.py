"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Model folder, hub name, or file.py:function.")
]
Layers = Annotated[
    str,
    typer.Option(
        help="Sites, comma-separated: ints, 'all', 'embed', patterns such as 'blocks.*.mlp_out', "
        "module paths."
    ),
]
Tokenizer = Annotated[
    str | None, typer.Option(help="Tokenizer folder or name; default: the model's own.")
]
Device = Annotated[str | None, typer.Option(help="Such as 'cuda'; default: where it loads.")]
Dtype = Annotated[
    str | None, typer.Option(help="Of the stored numbers: float32, bfloat16, float16.")
]
Rows = Annotated[
    str | None,
    typer.Option(help="What a row is: tokens, words, texts:mean, texts:last or texts:first."),
]
TextColumn = Annotated[str | None, typer.Option(help="Column that holds the text, for tables.")]
GroupColumn = Annotated[str | None, typer.Option(help="Column of what must not straddle a split.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N texts.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


Seed = Annotated[int, typer.Option(help="Of everything random.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder to save the finding in, for `layerscope report`.")
]
