"""How the command takes slips of the command line, and Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from layerscope.cli.commands import AGAIN, COMMANDS, Entry

INTERRUPTED = 130
UsageError: Any = typer.BadParameter.__mro__[1]  # typer gives it no name of its own


class Front(TyperGroup):
    """A group of commands, listed in the order of their use."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of `COMMANDS`; others follow."""
        prefix = f"{ctx.info_name} " if ctx.parent else ""
        rank = {name.removeprefix(prefix): i for i, name in enumerate(COMMANDS)}
        return sorted(self.commands, key=lambda name: rank.get(name, len(rank)))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse an option before the command with a word on where it goes."""
        typed = list(args)
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            option = getattr(error, "option_name", None)
            if option is not None and option in self._options():
                command = next((word for word in typed if word in self.commands), "COMMAND")
                error.message = (
                    f"{option} goes after the command: {ctx.command_path} {command} ... {option}"
                )
                error.possibilities = None
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Refuse an unknown command with what was meant, where that can be told."""
        try:
            return super().resolve_command(ctx, args)
        except UsageError as error:
            meant = self._meant(ctx, args[0])
            if meant:
                error.message = f"No such command {args[0]!r}. {meant}"
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C is one line and exit code 130."""
        with interruptible(ctx), _with_example(ctx):
            return super().invoke(ctx)

    def _meant(self, ctx: Any, word: str) -> str:
        if word == "help":
            return f"Try {ctx.command_path} --help, or {ctx.command_path} COMMAND --help."
        for name, command in self.commands.items():
            if word in getattr(command, "commands", ()):
                return f"Did you mean '{name} {word}'?"
        if Path(word).exists():
            first = "sae eval" if ctx.parent else "probe"
            return f"That is a path; a command comes first, as in: layerscope {first} {word}"
        if get_close_matches(word, self.commands):
            return ""
        return f"There are {', '.join(self.list_commands(ctx))}."

    def _options(self) -> set[str]:
        return set(_options(self.commands.values()))


@contextmanager
def interruptible(ctx: Any) -> Iterator[None]:
    """Turn Ctrl-C into one line that says whether the same command goes on."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        entry = _entry(ctx)
        said = str(stopped) or (entry.stopped if entry is not None else AGAIN)
        print(said, file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _with_example(ctx: Any) -> Iterator[None]:
    """Say how the command is called, where it was called without what it needs."""
    try:
        yield
    except UsageError as error:
        entry = _entry(ctx)
        lacking = type(error).__name__ == "MissingParameter" and not error.message
        if lacking and entry is not None and entry.examples:
            error.message = f"For example: {entry.examples[0]}"
        raise


def _entry(ctx: Any) -> Entry | None:
    names = [ctx.info_name] if ctx.parent else []
    return COMMANDS.get(" ".join([*names, str(ctx.invoked_subcommand)]))


def _options(commands: Iterable[Any]) -> Iterator[str]:
    for command in commands:
        for parameter in command.params:
            yield from parameter.opts if parameter.param_type_name == "option" else ()
        yield from _options(getattr(command, "commands", {}).values())
