"""`layerscope report` and `layerscope demo`: findings as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerscope.cli.app import app
from layerscope.cli.options import AsJson, Quiet
from layerscope.cli.printing import print_json


@app.command()
def report(
    findings: Annotated[
        list[Path], typer.Argument(metavar="FINDING...", help="Folders of saved findings.")
    ],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Combine saved findings in one HTML file that works offline."""
    from layerscope.report import collect
    from layerscope.report import report as write

    found = collect(findings)
    path = write(found, out, title=title)
    if as_json:
        print_json({"report": path, "findings": len(found)})
    else:
        print(f"{len(found)} findings in {path}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("demo-report.html"),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sentences and probes.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Probe the bundled model on the bundled sentences, and write the report."""
    from layerscope.demo.battery import run

    path = run(out, quick=quick, progress=not (quiet or as_json))
    if as_json:
        print_json({"report": path})
    else:
        print(f"open {path} in a browser")
