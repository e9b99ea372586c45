"""The `layerscope` command: the calls of the library, in the same words.

Exit codes: 0 done; 1 the input was refused (the reason is on stderr); 2 the command line was
wrong; 3 `anatomy` found a check that failed; 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from layerscope.corpus import Corpus, Samples
    from layerscope.finding import Finding
    from layerscope.store import Store

SHOWN = ("site", "value", "ci_low", "ci_high", "baseline", "control", "selectivity", "twin")
REFUSED = 1
CHECK_FAILED = 3

app = typer.Typer(
    name="layerscope",
    help="What the hidden layers of a neural network know, and where they know it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Model folder, hub name, or file.py:function.")
]
Layers = Annotated[
    str,
    typer.Option(
        help="Sites, comma-separated: ints, 'all', 'embed', patterns such as 'blocks.*.mlp_out', "
        "module paths."
    ),
]
Tokenizer = Annotated[
    str | None, typer.Option(help="Tokenizer folder or name; default: the model's own.")
]
Device = Annotated[str | None, typer.Option(help="Such as 'cuda'; default: where it loads.")]
Dtype = Annotated[
    str | None, typer.Option(help="Of the stored numbers: float32, bfloat16, float16.")
]
Rows = Annotated[
    str | None,
    typer.Option(help="What a row is: tokens, words, texts:mean, texts:last or texts:first."),
]
TextColumn = Annotated[str | None, typer.Option(help="Column that holds the text, for tables.")]
GroupColumn = Annotated[str | None, typer.Option(help="Column of what must not straddle a split.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N texts.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


@app.callback()
def _front() -> None:
    """What the hidden layers of a neural network know, and where they know it."""


@app.command()
def anatomy(model: Model, device: Device = None, as_json: AsJson = False) -> None:
    """Find embedding, blocks, attention, MLP, norms and head, and check them by numbers."""
    from layerscope.hooks.anatomy import anatomy as look

    found = look(_model(model, device))
    if as_json:
        _print_json(
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
        str, typer.Argument(help="Texts: .txt .jsonl .csv .parquet .conllu, or a folder of those.")
    ],
    layers: Layers = "embed,all",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the store; default: the user's cache.")
    ] = None,
    rows: Rows = None,
    dtype: Dtype = None,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    group: GroupColumn = None,
    limit: Limit = None,
    special_tokens: Annotated[
        bool, typer.Option("--special-tokens", help="Keep rows of BOS, SEP and the like.")
    ] = False,
    too_long: Annotated[
        str, typer.Option(help="Texts beyond the context: 'truncate' or 'refuse'.")
    ] = "truncate",
    batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Padded tokens of one batch.")
    ] = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run MODEL over DATA and keep activations on disk; interrupted work goes on."""
    from layerscope.hooks.extract import extract

    store = extract(
        _model(model, device),
        _corpus(data, text, group, limit),
        _layers(layers),
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
        _print_json(_store_as_dict(store))
        return
    print(store)
    for note in store.notes:
        print(f"  note: {note}")
    label = "upos" if "upos" in store.labels else next(iter(store.labels), None)
    if label is not None:
        print(f"next: layerscope probe {store.path} --label {label}")


@app.command()
def probe(
    source: Annotated[
        str, typer.Argument(metavar="MODEL_OR_STORE", help="A model, or a folder that dump wrote.")
    ],
    data: Annotated[
        str | None, typer.Argument(help="Labelled texts, for a model; default: the bundled ones.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Which label to read; default: the only one, or upos.")
    ] = None,
    layers: Layers = "all",
    folds: Annotated[int, typer.Option(min=3, help="Cross-validation folds.")] = 5,
    seed: Annotated[int, typer.Option(help="Of folds, controls and intervals.")] = 0,
    twin: Annotated[
        bool, typer.Option("--twin", help="Probe an untrained copy of the model as well.")
    ] = False,
    rows: Rows = None,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    group: GroupColumn = None,
    limit: Limit = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to save the finding in, for `layerscope report`.")
    ] = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Read a label from every layer, beside its baseline, control and interval."""
    from layerscope.probes.probe import probe as measure

    options: dict[str, Any] = {} if rows is None else {"rows": rows}
    finding = measure(
        _model_or_store(source, data, device),
        _layers(layers),
        None if data is None else _corpus(data, text, group, limit),
        label=label,
        folds=folds,
        seed=seed,
        twin=twin,
        tokenizer=tokenizer,
        progress=not (quiet or as_json),
        **options,
    )
    saved = None if out is None else finding.save(out)
    if as_json:
        _print_json(_finding_as_dict(finding) | {"saved": saved})
        return
    print(finding)
    _print_table(finding.table)
    if saved is not None:
        print(f"saved to {saved}; next: layerscope report {saved}")


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
        _print_json({"report": path, "findings": len(found)})
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
        _print_json({"report": path})
    else:
        print(f"open {path} in a browser")


def main() -> None:
    """Run the command; a refused input is one line on stderr and exit code 1."""
    try:
        app()
    except (ValueError, LookupError, OSError, TypeError, RuntimeError) as error:
        if os.environ.get("LAYERSCOPE_DEBUG"):
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"error: {text}", file=sys.stderr)
        print("(LAYERSCOPE_DEBUG=1 shows where)", file=sys.stderr)
        sys.exit(REFUSED)


def _model(name: str, device: str | None) -> Any:
    from layerscope.hooks.load import load_model

    return load_model(name, device=device)


def _corpus(data: str, text: str | None, group: str | None, limit: int | None) -> Corpus | Samples:
    from layerscope.corpus import Corpus, read

    corpus = read(data, text=text, group=group)
    return corpus.take(limit) if limit is not None and isinstance(corpus, Corpus) else corpus


def _model_or_store(source: str, data: str | None, device: str | None) -> Any:
    if not (Path(source) / "store.json").is_file():
        return _model(source, device)
    if data is not None:
        raise ValueError(f"{source} is a store, which brings its own rows; leave {data!r} out")
    from layerscope.store import Store

    return Store.open(source)


def _layers(text: str) -> Sequence[int | str]:
    """``"embed,3,-1"`` as a list; ints stay ints."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [int(name) if name.lstrip("-").isdigit() else name for name in names]


def _store_as_dict(store: Store) -> dict[str, Any]:
    return {
        "store": store.path,
        "key": store.key,
        "rows": len(store),
        "sites": {name: spec.width for name, spec in store.sites.items()},
        "labels": list(store.labels),
        "notes": list(store.notes),
    }


def _finding_as_dict(finding: Finding) -> dict[str, Any]:
    return {
        "question": finding.question,
        "answer": finding.answer(),
        "table": json.loads(finding.table.to_json(orient="records")),
        "notes": list(finding.notes),
        "provenance": vars(finding.provenance),
    }


def _print_json(body: dict[str, Any]) -> None:
    print(json.dumps(body, indent=1, ensure_ascii=False, default=str))


def _print_table(table: pd.DataFrame) -> None:
    """The columns that a terminal has room for; `--json` and the saved finding have them all."""
    from rich.console import Console
    from rich.table import Table

    shown = [name for name in SHOWN if name in table and table[name].notna().any()]
    drawn = Table(*shown)
    for line in table[shown].itertuples(index=False):
        drawn.add_row(*(f"{x:.3f}" if isinstance(x, float) else str(x) for x in line))
    Console().print(drawn)
