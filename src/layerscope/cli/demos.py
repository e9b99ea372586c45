"""`layerscope demo`: a first look, on the bundled model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerscope.cli.app import app
from layerscope.cli.opening import open_page
from layerscope.cli.options import AsJson, Open, Page, Quiet
from layerscope.cli.printing import print_json
from layerscope.cli.waiting import waiting


@app.command()
def demo(
    out: Page = Path("demo-report.html"),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sentences and probes.")] = False,
    show: Open = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Probe the bundled model on the bundled sentences, and write the report."""
    with waiting():
        from layerscope.demo.battery import run

    path = run(out, quick=quick, progress=not (quiet or as_json))
    if as_json:
        print_json({"report": path})
    else:
        print(f"open {path} in a browser")
    if show:
        open_page(path)
