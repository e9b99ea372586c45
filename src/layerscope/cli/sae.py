"""`layerscope sae`: train sparse autoencoders, measure them, look at their latents."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layerscope.cli.app import app
from layerscope.cli.inputs import loaded, loaded_or_store, sites, texts
from layerscope.cli.options import AsJson, Device, Limit, Out, Quiet, Seed, TextColumn, Tokenizer
from layerscope.cli.printing import finding_as_dict, print_json, print_table, show

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.analyses.sae.sae import SAE
    from layerscope.store import Store

INTERRUPTED = 130
MEASURES = ("measure", "value", "ci_low", "ci_high", "random", "pca", "n", "unit")
LATENTS = ("latent", "density", "max", "top_token", "class", "score", "null", "nearest", "up")

sae = typer.Typer(
    help="Sparse autoencoders: train, measure, look at their latents.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(sae, name="sae")

Trained = Annotated[
    str,
    typer.Argument(
        metavar="SAE", help="Folder or file of an SAE: ours, SAELens', and of most libraries."
    ),
]
Seen = Annotated[
    str | None,
    typer.Option("--model", help="The model itself: cross-entropy, or logit effects."),
]


@sae.command()
def train(
    source: Annotated[
        str, typer.Argument(metavar="STORE_OR_MODEL", help="What dump wrote, or a model.")
    ],
    data: Annotated[str | None, typer.Argument(help="Texts, for a model.")] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the SAE, and a checkpoint each minute; a second call goes on."
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            "--layer",
            help="Sites, comma-separated; each gets its own SAE. Default: the store's only one.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Another site, to be reconstructed: a transcoder.")
    ] = None,
    architecture: Annotated[
        str,
        typer.Option(
            help="topk, batchtopk, matryoshka, jumprelu, relu, relu_april, gated, afa, crosscoder."
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
        str, typer.Option(help="scale, none, per_dimension or whiten; folded in at the end.")
    ] = "scale",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
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
    from layerscope.analyses.sae.train import train as train_one
    from layerscope.analyses.sae.train import train_together

    if to is None:
        raise ValueError("where shall the SAE go? Pass --to FOLDER")
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
    ks, l1s = _numbers(k, "-k", int), _numbers(l1, "--l1", float)

    def made() -> tuple[SAE, ...]:
        if target is None and architecture != "crosscoder":
            return train_together(given, place, k=ks, l1=l1s, **options)
        other = None if target is None else sites(target)
        one = {"k": _only(ks, "-k"), "l1": _only(l1s, "--l1")}
        return (train_one(given, place, target=other, **one, **options),)  # type: ignore[arg-type]

    try:
        done = made()
    except KeyboardInterrupt as stopped:
        print(stopped, file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    _show_trained(done, to, source if data is None else f"{source} {data}", as_json)


@sae.command("eval")
def evaluate(
    trained: Trained,
    source: Annotated[
        str, typer.Argument(metavar="STORE_OR_MODEL", help="What dump wrote, or a model.")
    ],
    data: Annotated[str | None, typer.Argument(help="Texts, for a model.")] = None,
    site: Annotated[
        str | None, typer.Option(help="What the SAE reads; default: where it was trained.")
    ] = None,
    model: Seen = None,
    label: Annotated[str | None, typer.Option(help="A label of the store: sparse probing.")] = None,
    rows: Annotated[int, typer.Option(min=2, help="At most so many rows.")] = 1_000_000,
    tokens: Annotated[
        int, typer.Option(min=1, help="Tokens that the model reads for its cross-entropy.")
    ] = 100_000,
    no_baselines: Annotated[
        bool, typer.Option("--no-baselines", help="Without random dictionary and PCA.")
    ] = False,
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    limit: Limit = None,
    out: Out = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure an SAE: reconstruction, sparsity, norms, directions, and what the model loses."""
    from layerscope.analyses.sae.evaluate import evaluate as measure
    from layerscope.analyses.sae.formats.save_load import load

    finding = measure(
        load(trained),
        loaded_or_store(source, data, device) if data is None else loaded(source, device),
        site=None if site is None else sites(site),  # type: ignore[arg-type]
        model=None if model is None else loaded(model, device),
        corpus=None if data is None else texts(data, text, None, limit),
        tokenizer=tokenizer,
        label=label,
        rows=rows,
        tokens=tokens,
        baselines=not no_baselines,
        seed=seed,
        progress=not (quiet or as_json),
    )
    show(finding, out, as_json, _print_measures)


@sae.command()
def features(
    trained: Trained,
    store: Annotated[str, typer.Argument(metavar="STORE", help="What dump wrote.")],
    site: Annotated[
        str | None, typer.Option(help="What the SAE reads; default: where it was trained.")
    ] = None,
    model: Seen = None,
    label: Annotated[
        str | None, typer.Option(help="A label of the store: the class each latent tells best.")
    ] = None,
    latents: Annotated[
        str | None, typer.Option(help="Only these, comma-separated, in this order.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Strongest examples of each latent.")] = 8,
    shown: Annotated[int, typer.Option(min=0, help="Latents on the report's page.")] = 24,
    layout: Annotated[str, typer.Option(help="Map of the directions: umap, pca or none.")] = "umap",
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    out: Out = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Look at the latents of an SAE; with --out, `layerscope report` makes their page."""
    from layerscope.analyses.sae.features import features as look
    from layerscope.analyses.sae.formats.save_load import load

    numbers = _numbers(latents, "--latents", int)
    finding = look(
        load(trained),
        _store(store),
        site=None if site is None else sites(site),  # type: ignore[arg-type]
        model=None if model is None else loaded(model, device),
        label=label,
        latents=numbers,
        top=top,
        shown=shown,
        layout=layout,
        tokenizer=tokenizer,
        seed=seed,
        progress=not (quiet or as_json),
    )
    show(finding, out, as_json, _print_latents)


def _print_latents(table: pd.DataFrame) -> None:
    """Those on the report's page, in its order; the first ones where there is no page."""
    paged = table.dropna(subset="place").sort_values("place")
    print_table((paged if len(paged) else table).head(20), LATENTS)


def _print_measures(table: pd.DataFrame) -> None:
    """Without the points of the figure, of which a measure has many."""
    print_table(table[~table["measure"].duplicated(keep=False)], MEASURES)


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


def _store(folder: str) -> Store:
    from layerscope.store import Store

    return Store.open(folder)


def _numbers(text: str | None, option: str, kind: type) -> list[Any] | None:
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",") if part.strip()] or None
    except ValueError:
        whole = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{option} {text}: give {whole}, comma-separated, such as 16,32") from None


def _only(values: list[Any] | None, option: str) -> Any:
    if values is not None and len(values) > 1:
        raise ValueError(
            f"{option} has {len(values)} values; a transcoder or crosscoder is trained by itself, "
            "give one"
        )
    return None if values is None else values[0]
