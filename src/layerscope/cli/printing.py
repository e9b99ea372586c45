"""Results on the terminal: for eyes, or as JSON for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from layerscope.finding import Finding

SHOWN = ("site", "value", "ci_low", "ci_high", "baseline", "control", "selectivity", "twin")


def show(
    finding: Finding,
    out: Path | None,
    as_json: bool,
    draw: Callable[[pd.DataFrame], None] | None = None,
) -> None:
    """Print a finding, what it says and its table as `draw` shows it, and save it where asked.

    What cannot be saved is printed all the same: it may have taken long.
    """
    try:
        saved, failed = None if out is None else finding.save(out), None
    except (ValueError, OSError) as error:
        saved, failed = None, error
    if as_json:
        print_json(finding_as_dict(finding) | {"saved": saved})
    else:
        print(finding)
        (draw or print_table)(finding.table)
    if failed is not None:
        raise ValueError(f"not saved: {failed}") from failed
    if saved is not None and not as_json:
        print(f"saved to {saved}; next: layerscope report {saved}")


def finding_as_dict(finding: Finding) -> dict[str, Any]:
    """All that a finding holds, as JSON can say it."""
    return {
        "question": finding.question,
        "gist": finding.gist(),
        "answer": finding.answer(),
        "table": json.loads(finding.table.to_json(orient="records")),
        "notes": list(finding.notes),
        "provenance": vars(finding.provenance),
    }


def print_json(body: dict[str, Any]) -> None:
    """One JSON document on stdout."""
    print(json.dumps(body, indent=1, ensure_ascii=False, default=str))


def print_table(table: pd.DataFrame, columns: Sequence[str] = SHOWN) -> None:
    """The columns that a terminal has room for; `--json` and the saved finding have them all.

    A file or a pipe gets all of `columns`, however wide.
    """
    from rich.console import Console
    from rich.table import Table

    shown = [name for name in columns if name in table and table[name].notna().any()]
    cells = {str(name): [cell(x) for x in table[name]] for name in shown}
    wide = 1 + sum(map(_width, cells, cells.values()))
    console = Console()
    if not (console.is_terminal or "COLUMNS" in os.environ):
        console = Console(width=max(wide, console.width))
    room = fitting(cells, console.width)
    drawn = Table()
    for name in room:
        drawn.add_column(name, no_wrap=True, overflow="fold")
    for line in zip(*(cells[name] for name in room), strict=True):
        drawn.add_row(*line)
    console.print(drawn)
    left = list(cells)[len(room) :]
    if left:
        print(f"no room for {', '.join(left)}; a wider terminal or --json shows them")


def fitting(cells: Mapping[str, Sequence[str]], width: int) -> list[str]:
    """The first columns that fit side by side in `width` characters; the first one always."""
    kept: list[str] = []
    taken = 1
    for name, values in cells.items():
        taken += _width(name, values)
        if kept and taken > width:
            break
        kept.append(name)
    return kept


def _width(name: str, values: Sequence[str]) -> int:
    from rich.cells import cell_len

    return 3 + max(map(cell_len, [name, *values]))


def cell(value: object) -> str:
    """A value as the table shows it: three decimals, or two digits where those would be lost.

    >>> cell(0.5), cell(0.000234), cell(0.0), cell("embed")
    ('0.500', '0.00023', '0.000', 'embed')
    """
    if not isinstance(value, float):
        from layerscope.report.tables import plain

        return plain(value)
    return f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"
