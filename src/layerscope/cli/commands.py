"""The commands in the order of their use: the group each is in, an example, what a stop costs."""

from __future__ import annotations

from dataclasses import dataclass

import typer

START = "Start here"
ROWS = "What layers know, and look like"
WHAT_IF = "What layers say, and what if"
LEARNED = "Dictionaries and training"
PAGES = "Pages, and trust in the instruments"

AGAIN = "stopped; the same command starts over"
KEPT = (
    "stopped; shards of activations that are whole are kept, and the same command goes on with them "
    "(what is measured on them starts over)"
)


@dataclass(frozen=True)
class Entry:
    """How one command is presented."""

    group: str
    examples: tuple[str, ...]
    stopped: str = AGAIN
    """What Ctrl-C leaves behind, in one line."""


COMMANDS = {
    "demo": Entry(START, ("layerscope demo --open",), KEPT),
    "anatomy": Entry(START, ("layerscope anatomy gpt2",)),
    "survey": Entry(
        START,
        ("layerscope survey gpt2 texts.conllu --label upos --open",),
        "stopped; the report has every question answered so far, and activations are kept: the "
        "same command asks all questions again",
    ),
    "dump": Entry(
        START,
        (
            "layerscope dump gpt2 texts.conllu --layers all --out acts",
            "layerscope dump gpt2 texts.txt --layers embed,3,-1,'blocks.*.mlp_out' --out acts",
        ),
        "stopped; shards that are whole are kept, and the same command goes on after them",
    ),
    "probe": Entry(
        ROWS,
        (
            "layerscope probe acts --label upos --out upos",
            "layerscope probe gpt2 texts.conllu --label upos --kind mdl",
        ),
        KEPT,
    ),
    "words": Entry(ROWS, ("layerscope words acts --label upos --out words",), KEPT),
    "geometry": Entry(ROWS, ("layerscope geometry acts --out shape",), KEPT),
    "similarity": Entry(
        ROWS,
        ("layerscope similarity acts", "layerscope similarity gpt2 distilgpt2 --data texts.txt"),
        KEPT,
    ),
    "lens": Entry(
        WHAT_IF,
        ("layerscope lens gpt2 'The capital of France is'", "layerscope lens gpt2 texts.txt"),
    ),
    "skip": Entry(WHAT_IF, ("layerscope skip gpt2 texts.txt --out skip",)),
    "backpatch": Entry(WHAT_IF, ("layerscope backpatch gpt2 questions.jsonl --out backpatch",)),
    "sae": Entry(LEARNED, ()),
    "sae train": Entry(
        LEARNED, ("layerscope sae train acts --layer 3 -k 32 --width 4096 --to sae",)
    ),
    "sae eval": Entry(LEARNED, ("layerscope sae eval sae acts --model gpt2",)),
    "sae features": Entry(
        LEARNED, ("layerscope sae features sae acts --model gpt2 --out latents",)
    ),
    "plane": Entry(
        LEARNED,
        ("layerscope plane bits --seeds 8 --keep run --out plane", "layerscope plane checkpoints/"),
        "stopped; with --keep the same command goes on where it was, else it starts over",
    ),
    "report": Entry(PAGES, ("layerscope report upos words shape --out report.html --open",)),
    "calibrate": Entry(PAGES, ("layerscope calibrate --open",)),
}


def arrange(app: typer.Typer, prefix: str = "") -> None:
    """Give every command of `app` its group and its examples."""
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "")
        entry = COMMANDS.get(f"{prefix}{name}")
        if entry is not None:
            command.rich_help_panel = None if prefix else entry.group
            command.epilog = _examples(entry.examples)
    for group in app.registered_groups:
        entry = COMMANDS.get(str(group.name))
        if entry is not None and group.typer_instance is not None:
            group.rich_help_panel = entry.group
            arrange(group.typer_instance, f"{group.name} ")


def _examples(examples: tuple[str, ...]) -> str:
    """A line each; help runs lines together that no empty line parts, and reads [] as markup."""
    title = "Example:" if len(examples) == 1 else "Examples:"
    return "\n\n".join([title, *(f"  {one}".replace("[", r"\[") for one in examples)])
