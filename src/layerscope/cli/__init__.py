"""The `layerscope` command: the calls of the library, in the same words.

Exit codes: 0 done; 1 the input was refused (the reason is on stderr); 2 the command line was
wrong; 3 `anatomy` found a check that failed, or `calibrate` an instrument that is off; 130
interrupted.
"""

from __future__ import annotations

import errno
import os
import re
import sys

from layerscope.cli import calibrate as calibrate
from layerscope.cli import data as data
from layerscope.cli import demos as demos
from layerscope.cli import geometry as geometry
from layerscope.cli import lenses as lenses
from layerscope.cli import planes as planes
from layerscope.cli import probes as probes
from layerscope.cli import reports as reports
from layerscope.cli import sae as sae
from layerscope.cli import sae_training as sae_training
from layerscope.cli import surveys as surveys
from layerscope.cli import what_if as what_if
from layerscope.cli import words as words
from layerscope.cli.app import CHECK_FAILED, REFUSED, app
from layerscope.cli.commands import arrange

__all__ = ["CHECK_FAILED", "REFUSED", "app", "main"]

arrange(app)


def main() -> None:
    """Run the command; a refused input is one line on stderr and exit code 1."""
    try:
        app()
    except (ValueError, LookupError, OSError, TypeError, RuntimeError) as error:
        if os.environ.get("LAYERSCOPE_DEBUG"):
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"error: {_in_words_of_the_command(_explained(error, str(text)))}", file=sys.stderr)
        print("(LAYERSCOPE_DEBUG=1 shows where)", file=sys.stderr)
        sys.exit(REFUSED)


def _explained(error: Exception, text: str) -> str:
    """What the operating system says of a file, as a sentence with a next step."""
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return text
    step = {
        errno.EACCES: "; give a place of your own, or change its rights",
        errno.EPERM: "; give a place of your own, or change its rights",
        errno.EROFS: "; give a place that can be written",
        errno.ENOSPC: "; free some, or give another place",
    }.get(error.errno or 0, "")
    return f"{error.filename}: {error.strerror.lower()}{step}"


_SAME = "tokenizer|text|batch|width|tokens|target|lr|label|rows|kind|folds|limit|group|dtype|device"


def _in_words_of_the_command(text: str) -> str:
    """What the library calls `tokenizer=` is `--tokenizer` here, and `text='...'` is `--text '...'`."""
    text = text.replace("print(anatomy(model))", "layerscope anatomy MODEL")
    return re.sub(
        rf"\b({_SAME})=(['\"\w]?)",
        lambda found: f"--{found[1]}{' ' * bool(found[2])}{found[2]}",
        text,
    )
