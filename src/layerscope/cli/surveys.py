"""`layerscope survey`: the default battery on one model or store, as one report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerscope.cli.app import app
from layerscope.cli.inputs import loaded_or_store, sites, texts
from layerscope.cli.options import (
    AsJson,
    Device,
    GroupColumn,
    Layers,
    Limit,
    Quiet,
    Seed,
    TextColumn,
    Tokenizer,
)
from layerscope.cli.printing import finding_as_dict, print_json


@app.command()
def survey(
    source: Annotated[
        str, typer.Argument(metavar="MODEL_OR_STORE", help="A model, or a folder that dump wrote.")
    ],
    data: Annotated[
        str | None, typer.Argument(help="Labelled texts, for a model; default: the bundled ones.")
    ] = None,
    layers: Layers = "all",
    label: Annotated[
        str | None, typer.Option(help="Class label to read; default: the only one, or upos.")
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(help="Question to leave out, such as mdl; may be given several times."),
    ] = None,
    twin: Annotated[
        bool, typer.Option("--twin", help="Measure an untrained copy of the model as well.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("survey.html"),
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
    from layerscope.analyses import survey as ask
    from layerscope.analyses.survey import LEFT_OUT
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
        return
    for finding in findings:
        print(f"{finding.question}\n  {finding.answer()}")
    for note in findings[-1].notes:
        if note.startswith(LEFT_OUT):
            print(note)
    print(f"open {out} in a browser")
