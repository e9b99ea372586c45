"""`layerscope sae train`: sparse autoencoders on the rows of a store, or of a model while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerscope.cli import checks, completing
from layerscope.cli.choices import among
from layerscope.cli.inputs import loaded, loaded_or_store, sites, texts
from layerscope.cli.options import (
    DATA,
    OUTPUT,
    RUNNING,
    AsJson,
    Device,
    Limit,
    Quiet,
    Seed,
    TextColumn,
    Tokenizer,
)
from layerscope.cli.printing import finding_as_dict, print_json
from layerscope.cli.sae import RowSource, Texts, numbers, sae
from layerscope.cli.waiting import waiting

if TYPE_CHECKING:
    from layerscope.analyses.sae.sae import SAE

ARCHITECTURES = (
    "topk",
    "batchtopk",
    "matryoshka",
    "jumprelu",
    "relu",
    "relu_april",
    "gated",
    "afa",
    "transcoder",
    "crosscoder",
)


@sae.command()
def train(
    source: RowSource,
    data: Texts = None,
    to: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the SAE, and a checkpoint each minute; a second call goes on. Needed.",
            callback=checks.folder,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            "--layer",
            help="Sites, comma-separated; each gets its own SAE. Default: the store's only one.",
            autocompletion=completing.layers,
            rich_help_panel=DATA,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Another site, to be reconstructed: a transcoder.",
            autocompletion=completing.layers,
            rich_help_panel=DATA,
        ),
    ] = None,
    architecture: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(ARCHITECTURES)}.", **among("--architecture", *ARCHITECTURES)
        ),
    ] = "topk",
    width: Annotated[
        int | None, typer.Option(help="Latents; default: 8 for each dimension.")
    ] = None,
    k: Annotated[
        str | None,
        typer.Option(
            "-k",
            help="Active latents per row (jumprelu: on average); several, as 16,32, train together.",
        ),
    ] = None,
    l1: Annotated[
        str | None, typer.Option(help="Weight of the penalty, for relu, gated and crosscoder.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Rows to see in all; default: ten passes.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Rows of a step; default: 4,096.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; default by width.")] = None,
    scaling: Annotated[
        str,
        typer.Option(
            help="scale, none, per_dimension or whiten; folded in at the end.",
            **among("--scaling", "scale", "none", "per_dimension", "whiten"),
        ),
    ] = "scale",
    precision: Annotated[
        str,
        typer.Option(
            help="auto, float32 or bfloat16.",
            **among("--precision", "auto", "float32", "bfloat16"),
            rich_help_panel=RUNNING,
        ),
    ] = "auto",
    dead_after: Annotated[
        int | None, typer.Option(help="Rows of silence that make a latent dead.")
    ] = None,
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    limit: Limit = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train sparse autoencoders on the rows of a store, or of a model while it runs.

    The folder can be read by SAELens. Interrupted or killed, the same call goes on.
    """
    if to is None:
        raise ValueError("where shall the SAE go? Pass --to FOLDER")
    with waiting():
        from layerscope.analyses.sae.train import train as train_one
        from layerscope.analyses.sae.train import train_together

    given = loaded_or_store(source, data, device) if data is None else loaded(source, device)
    options: dict[str, Any] = {
        "architecture": architecture,
        "width": width,
        "tokens": tokens,
        "batch": batch,
        "lr": lr,
        "scaling": scaling,
        "precision": precision,
        "dead_after": dead_after,
        "seed": seed,
        "tokenizer": tokenizer,
        "to": to,
        "device": device,
        "corpus": None if data is None else texts(data, text, None, limit),
        "progress": not (quiet or as_json),
    }
    place = _place(given, layers)
    ks, l1s = numbers(k, "-k", int), numbers(l1, "--l1", float)

    def made() -> tuple[SAE, ...]:
        if target is None and architecture != "crosscoder":
            return train_together(given, place, k=ks, l1=l1s, **options)
        other = None if target is None else sites(target)
        one = {"k": _only(ks, "-k"), "l1": _only(l1s, "--l1")}
        return (train_one(given, place, target=other, **one, **options),)  # type: ignore[arg-type]

    _show_trained(made(), to, source if data is None else f"{source} {data}", as_json)


def _show_trained(made: tuple[SAE, ...], to: Path, source: str, as_json: bool) -> None:
    histories = [one.history for one in made if one.history is not None]
    if as_json:
        print_json({"saes": [finding_as_dict(history) for history in histories], "saved": to})
        return
    for history in histories:
        print(history.answer())
    for note in histories[0].notes:
        print(f"  note: {note}")
    place = to if len(made) == 1 else min(to.glob("0_*"), default=to)
    print(f"saved to {to}; next: layerscope sae eval {place} {source}")


def _place(given: Any, layers: str | None) -> Any:
    """The sites asked for, or the only one of a store."""
    if layers is not None:
        return sites(layers)
    names = list(getattr(given, "sites", ()))
    if len(names) == 1:
        return names[0]
    there = f"; the store has {', '.join(names)}" if names else ""
    raise ValueError(f"which layer? Pass --layer, such as --layer 3{there}")


def _only(values: list[Any] | None, option: str) -> Any:
    if values is not None and len(values) > 1:
        raise ValueError(
            f"{option} has {len(values)} values; a transcoder or crosscoder is trained by itself, "
            "give one"
        )
    return None if values is None else values[0]
