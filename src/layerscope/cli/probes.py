"""`layerscope probe`: what can be read off each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerscope.cli import completing
from layerscope.cli.app import app
from layerscope.cli.choices import among
from layerscope.cli.inputs import loaded_or_store, sites, texts
from layerscope.cli.options import (
    DATA,
    AsJson,
    Device,
    GroupColumn,
    Labelled,
    Layers,
    Limit,
    Out,
    Quiet,
    Rows,
    Seed,
    Source,
    TextColumn,
    Tokenizer,
    Twin,
)
from layerscope.cli.printing import show
from layerscope.cli.waiting import waiting
from layerscope.probes.kinds import NAMES

if TYPE_CHECKING:
    from layerscope.probes.kinds import Kind


@app.command()
def probe(
    source: Source,
    data: Labelled = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="Which label to read; give it several times for several. Default: the only one, "
            "or upos.",
            autocompletion=completing.labels,
            rich_help_panel=DATA,
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(help=f"Kind of probe: {', '.join(NAMES)}.", **among("--kind", *NAMES)),
    ] = "linear",
    concepts: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="For --kind concepts: another label, whose classes are the concepts.",
            autocompletion=completing.labels,
        ),
    ] = None,
    layers: Layers = "all",
    folds: Annotated[int, typer.Option(min=3, help="Cross-validation folds.")] = 5,
    seed: Seed = 0,
    twin: Twin = False,
    rows: Rows = None,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    group: GroupColumn = None,
    limit: Limit = None,
    out: Out = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Read labels from every layer, beside their baselines, controls and intervals."""
    with waiting():
        from layerscope.probes.probe import probe as measure

    options: dict[str, Any] = {} if rows is None else {"rows": rows}
    finding = measure(
        loaded_or_store(source, data, device),
        sites(layers),
        None if data is None else texts(data, text, group, limit),
        label=label[0] if label and len(label) == 1 else label or None,
        kind=_kind(kind, concepts),
        folds=folds,
        seed=seed,
        twin=twin,
        tokenizer=tokenizer,
        progress=not (quiet or as_json),
        **options,
    )
    show(finding, out, as_json)


def _kind(name: str, concepts: str | None) -> str | Kind:
    """The kind of this name; the one that has no defaults with its option."""
    if (name == "concepts") != (concepts is not None):
        raise typer.BadParameter(
            "--kind concepts and --concepts COLUMN (another label, whose classes are the concepts) "
            "go together"
        )
    if concepts is None:
        return name
    from layerscope.probes.kinds import Concepts

    return Concepts(label=concepts)
