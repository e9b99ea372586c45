"""Options that take one of a few names: offered by the shell, and refused before any work."""

from __future__ import annotations

from typing import Any

from layerscope.cli.completing import one_of


def among(option: str, *names: str, several: bool = False) -> dict[str, Any]:
    """Arguments of a `typer.Option` whose value is among `names`; with `several`, a list with commas.

    Raises:
        ValueError: from the option's callback, for another name; names the nearest.
    """

    def check(value: str | None) -> str | None:
        from layerscope.corpus.names import nearest

        given = [] if value is None else value.split(",") if several else [value]
        for one in given:
            if one.strip() and one.strip() not in names:
                raise ValueError(f"{option} {one.strip()!r}: {nearest(one.strip(), names)}")
        return value

    return {"autocompletion": one_of(*names), "callback": check}
