"""A line at the terminal while something takes seconds before the first word can be said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def waiting(what: str = "opening torch and transformers") -> Iterator[None]:
    """Say what is waited for, and take it back afterwards; nothing where nobody looks on.

    The streams stay as they are: libraries that are imported meanwhile keep them.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(
        Text(f"{what} ...", style="dim"),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield
