"""`layerscope report`: findings as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerscope.cli import checks, completing
from layerscope.cli.app import app
from layerscope.cli.opening import open_page
from layerscope.cli.options import OUTPUT, AsJson, Open, Page
from layerscope.cli.printing import print_json
from layerscope.distribution import many


@app.command()
def report(
    findings: Annotated[
        list[Path],
        typer.Argument(
            metavar="FINDING...",
            help="Folders of saved findings, or folders that hold such.",
            callback=checks.findings,
            autocompletion=completing.findings,
        ),
    ],
    out: Page = Path("report.html"),
    title: Annotated[
        str | None, typer.Option(help="Title of the report.", rich_help_panel=OUTPUT)
    ] = None,
    as_json: AsJson = False,
    show: Open = False,
) -> None:
    """Combine saved findings in one HTML file that works offline."""
    from layerscope.report import collect
    from layerscope.report import report as write

    found = collect(findings)
    path = write(found, out, title=title)
    if as_json:
        print_json({"report": path, "findings": len(found)})
    else:
        print(f"{many(len(found), 'finding')} in {path}")
    if show:
        open_page(path)
