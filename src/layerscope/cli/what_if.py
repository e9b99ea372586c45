"""`layerscope backpatch` and `layerscope skip`: what if a layer had seen that, or were not there?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layerscope.cli import checks
from layerscope.cli.app import app
from layerscope.cli.choices import among
from layerscope.cli.inputs import loaded, texts
from layerscope.cli.options import (
    FORMATS,
    AsJson,
    Device,
    GroupColumn,
    Limit,
    Model,
    Out,
    Quiet,
    Seed,
    TextColumn,
    Tokenizer,
    Twin,
)
from layerscope.cli.printing import print_table, show
from layerscope.cli.waiting import waiting

RATES = ("any pair", "average pair", "fixed pair", "guessing", "untouched")
RATE_COLUMNS = ("position", "group", "kind", "states", "value", "ci_low", "ci_high", "control", "n")
SKIP_COLUMNS = ("layer", "measure", "tokens", "value", "ci_low", "ci_high", "max", "twin", "unit")


@app.command()
def backpatch(
    model: Model,
    questions: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS",
            help="Table with a prompt and an answer in each row: .jsonl .json .csv .tsv .parquet.",
        ),
    ],
    at: Annotated[
        list[str] | None,
        typer.Option(
            help="Position: a number (-1 is the last token), or a column with a part of each prompt, "
            "whose last token it is. Repeat to measure several. Default: -1."
        ),
    ] = None,
    generate: Annotated[
        int, typer.Option(min=0, help="Also generate N tokens and look for the answer in them.")
    ] = 0,
    alike: Annotated[
        str | None,
        typer.Option(
            help="Column of a kind; the control takes states of prompts of the same kind."
        ),
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="How often each control is drawn.")] = 1,
    prompt: Annotated[str, typer.Option(help="Column of the prompts.")] = "prompt",
    answer: Annotated[str, typer.Option(help="Column of the answers.")] = "answer",
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    limit: Limit = None,
    out: Out = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Put later states into earlier blocks: which wrong answers come right, beside a control?"""
    with waiting():
        from layerscope.analyses.back_patching import back_patching
        from layerscope.analyses.material.questions import read_questions

    asked = read_questions(questions, prompt=prompt, answer=answer, limit=limit)
    places = at or ["-1"]
    where = {name: asked.position(name) for name in places}
    finding = back_patching(
        loaded(model, device),
        asked.prompts,
        asked.answers,
        at=where[places[0]] if len(places) == 1 else where,
        generate=generate,
        alike=None if alike is None else asked.column(alike),
        draws=draws,
        tokenizer=tokenizer,
        seed=seed,
        progress=not (quiet or as_json),
    )
    show(
        finding,
        out,
        as_json,
        lambda table: print_table(table[table["kind"].isin(RATES)], RATE_COLUMNS),
    )


@app.command()
def skip(
    model: Model,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXTS",
            help=f"File of texts; default: the bundled sentences. {FORMATS}.",
            callback=checks.texts,
        ),
    ] = None,
    change: Annotated[
        str,
        typer.Option(
            help="What is done to each block: skip, repeat, or swap with the next.",
            **among("--change", "skip", "repeat", "swap"),
        ),
    ] = "skip",
    part: Annotated[
        str,
        typer.Option(
            help="What is skipped: block, attention or mlp.",
            **among("--part", "block", "attention", "mlp"),
        ),
    ] = "block",
    cuts: Annotated[
        int,
        typer.Option(min=0, help="Future-only effects at so many cuts of each text; 0: none."),
    ] = 4,
    max_texts: Annotated[int, typer.Option(min=1, help="More texts are drawn from.")] = 32,
    max_tokens: Annotated[int, typer.Option(min=3, help="Longer texts are cut.")] = 256,
    twin: Twin = False,
    seed: Seed = 0,
    tokenizer: Tokenizer = None,
    text: TextColumn = None,
    group: GroupColumn = None,
    limit: Limit = None,
    out: Out = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Leave out each block in turn: what does the output lose, what do later blocks do?"""
    with waiting():
        from layerscope.analyses.layer_skip import layer_skip

    finding = layer_skip(
        loaded(model, device),
        None if data is None else texts(data, text, group, limit),
        change=change,  # type: ignore[arg-type]
        part=part,  # type: ignore[arg-type]
        cuts=cuts,
        twin=twin,
        max_texts=max_texts,
        max_tokens=max_tokens,
        tokenizer=tokenizer,
        seed=seed,
        progress=not (quiet or as_json),
    )
    show(
        finding,
        out,
        as_json,
        lambda table: print_table(table[table["later"].isna()], SKIP_COLUMNS),
    )
