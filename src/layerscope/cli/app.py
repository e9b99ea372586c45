"""The command itself; the modules beside this one add what it can do."""

from __future__ import annotations

import typer

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


@app.callback()
def _front() -> None:
    """What the hidden layers of a neural network know, and where they know it."""
