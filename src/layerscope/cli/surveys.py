"""`layerscope survey`: the default battery on one model or store, as one report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerscope.cli.app import app
from layerscope.cli.inputs import loaded_or_store, sites, texts
from layerscope.cli.opening import open_page
from layerscope.cli.options import (
    AsJson,
    Device,
    GroupColumn,
    Label,
    Labelled,
    Layers,
    Limit,
    Open,
    Page,
    Quiet,
    Seed,
    Source,
    TextColumn,
    Tokenizer,
    Twin,
)
from layerscope.cli.printing import finding_as_dict, print_json
from layerscope.cli.waiting import waiting

if TYPE_CHECKING:
    from layerscope.finding import Finding


@app.command()
def survey(
    source: Source,
    data: Labelled = None,
    layers: Layers = "all",
    label: Label = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(help="Question to leave out, such as mdl; may be given several times."),
    ] = None,
    twin: Twin = False,
    out: Page = Path("survey.html"),
    show: Open = False,
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    group: GroupColumn = None,
    limit: Limit = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Ask what is worth asking of any trained model, and write one report.

    The report is written anew after every question.
    """
    with waiting():
        from layerscope.analyses import survey as ask
        from layerscope.report import report

    findings = ask(
        loaded_or_store(source, data, device),
        None if data is None else texts(data, text, group, limit),
        sites(layers),
        label=label,
        skip=skip or (),
        twin=twin,
        tokenizer=tokenizer,
        seed=seed,
        progress=not (quiet or as_json),
        after=lambda found: report(found, out),
    )
    if as_json:
        found = [finding_as_dict(finding) for finding in findings]
        print_json({"report": out, "findings": found})
    else:
        _print_answers(findings)
        print(f"open {out} in a browser")
    if show:
        open_page(out)


def _print_answers(findings: Sequence[Finding]) -> None:
    from layerscope.analyses.survey import LEFT_OUT

    for finding in findings:
        print(f"{finding.question}\n  {finding.answer()}")
    for note in findings[-1].notes:
        if note.startswith(LEFT_OUT):
            print(note)
