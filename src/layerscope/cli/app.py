"""The command itself; the modules beside this one add what it can do."""

from __future__ import annotations

from typing import Annotated

import typer

from layerscope.cli.front import Front

REFUSED = 1
CHECK_FAILED = 3

HELP_NAMES = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="layerscope",
    cls=Front,
    help="What the hidden layers of a neural network know, and where they know it.",
    epilog="New here? [b]layerscope demo --open[/b] runs on a bundled model, without a download. "
    "Every command has its own --help.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=HELP_NAMES,
)


def _version(asked: bool) -> None:
    if asked:
        from layerscope import __version__

        print(f"layerscope {__version__}")
        raise typer.Exit


@app.callback()
def _front(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """What the hidden layers of a neural network know, and where they know it."""
