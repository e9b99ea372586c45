"""`layerscope anatomy` and `layerscope dump`: look at a model, and keep what it computes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerscope.cli import checks
from layerscope.cli.app import CHECK_FAILED, app
from layerscope.cli.choices import among
from layerscope.cli.inputs import loaded, sites, texts
from layerscope.cli.options import (
    DATA,
    FORMATS,
    OUTPUT,
    RUNNING,
    AsJson,
    Device,
    Dtype,
    GroupColumn,
    Layers,
    Limit,
    Model,
    Quiet,
    Rows,
    TextColumn,
    Tokenizer,
)
from layerscope.cli.printing import print_json
from layerscope.cli.waiting import waiting

if TYPE_CHECKING:
    from layerscope.store import Store


@app.command()
def anatomy(model: Model, device: Device = None, as_json: AsJson = False) -> None:
    """Find embedding, blocks, attention, MLP, norms and head, and check them by numbers."""
    with waiting():
        from layerscope.hooks.anatomy import anatomy as look

    found = look(loaded(model, device))
    if as_json:
        print_json(
            {
                "model": found.model,
                "width": found.width,
                "blocks": [vars(block) for block in found.blocks],
                "sites": {name: str(place) for name, place in found.sites.items()},
                "shapes": dict(found.shapes),
                "checks": [vars(check) for check in found.checks],
                "notes": list(found.notes),
            }
        )
    else:
        print(found)
    if any(check.passed is False for check in found.checks):
        raise typer.Exit(CHECK_FAILED)


@app.command()
def dump(
    model: Model,
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help=f"Texts: {FORMATS}.", callback=checks.texts),
    ],
    layers: Layers = "embed,all",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the store; default: the user's cache.",
            callback=checks.new_store,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    rows: Rows = None,
    dtype: Dtype = None,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    group: GroupColumn = None,
    limit: Limit = None,
    special_tokens: Annotated[
        bool,
        typer.Option(
            "--special-tokens", help="Keep rows of BOS, SEP and the like.", rich_help_panel=DATA
        ),
    ] = False,
    too_long: Annotated[
        str,
        typer.Option(
            help="Texts beyond the context: 'truncate' or 'refuse'.",
            **among("--too-long", "truncate", "refuse"),
            rich_help_panel=DATA,
        ),
    ] = "truncate",
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Padded tokens of one batch; less needs less memory.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run MODEL over DATA and keep activations on disk; interrupted work goes on."""
    with waiting():
        from layerscope.hooks.extract import extract

    store = extract(
        loaded(model, device),
        texts(data, text, group, limit),
        sites(layers),
        rows=rows,
        tokenizer=tokenizer,
        dtype=dtype,
        to=out,
        special_tokens=special_tokens,
        too_long=too_long,
        batch_tokens=batch_tokens,
        progress=not (quiet or as_json),
    )
    if as_json:
        print_json(_store_as_dict(store))
        return
    print(store)
    for note in store.notes:
        print(f"  note: {note}")
    label = "upos" if "upos" in store.labels else next(iter(store.labels), None)
    asked = "geometry" if label is None else "probe"
    chosen = "" if label is None else f" --label {label}"
    print(f"next: layerscope {asked} {store.path}{chosen}")


def _store_as_dict(store: Store) -> dict[str, Any]:
    return {
        "store": store.path,
        "key": store.key,
        "rows": len(store),
        "sites": {name: spec.width for name, spec in store.sites.items()},
        "labels": list(store.labels),
        "notes": list(store.notes),
    }
