"""`layerscope calibrate`: every instrument measures something planted; the table grows as it goes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerscope.cli.app import CHECK_FAILED, app
from layerscope.cli.opening import open_page
from layerscope.cli.options import OUTPUT, AsJson, Open, Out, Quiet, Seed
from layerscope.cli.printing import finding_as_dict, print_json
from layerscope.cli.waiting import waiting

if TYPE_CHECKING:
    from layerscope.calibration import Calibration

PAGE = Path("calibration.html")


def _named(incomplete: str) -> list[str]:
    from layerscope.calibration.instruments.catalogue import CATALOGUE

    return [one.name for one in CATALOGUE if one.name.startswith(incomplete)]


@app.command()
def calibrate(
    instruments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INSTRUMENT]...",
            help="Names (layer_skip), patterns ('probe.*') or families ('What if'); default: all.",
            autocompletion=_named,
        ),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Only name the instruments and what each is set before.")
    ] = False,
    out: Out = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--report", help="HTML file to write, with figure and table.", rich_help_panel=OUTPUT
        ),
    ] = None,
    show: Open = False,
    seed: Seed = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Let every instrument measure something planted whose answer is known: expected, measured, verdict.

    Exit code 0 if all are as expected, 3 otherwise. Takes less than a minute on two cores.
    """
    with waiting():
        from layerscope.calibration.calibrate import as_finding, choose, measured
        from layerscope.cli.calibration_table import Growing, listed

    chosen = choose(instruments or None)
    if listing:
        listed(chosen, as_json)
        return
    started = time.perf_counter()
    growing = Growing(chosen, silent=as_json, brief=quiet)
    rows = growing.watch(measured(chosen, seed))
    finding = as_finding(rows, instruments or None, seed, time.perf_counter() - started)
    saved = None if out is None else finding.save(out)
    written = _page(finding, page or PAGE) if page or show else None
    if as_json:
        print_json(finding_as_dict(finding) | {"saved": saved, "report": written})
    else:
        growing.close(finding, [path for path in (saved, written) if path is not None])
    if show and written is not None:
        open_page(written)
    if not finding.passed:
        raise typer.Exit(CHECK_FAILED)


def _page(finding: Calibration, path: Path) -> Path:
    from layerscope.report import report

    return report(finding, path, title="Are the instruments right?")
