"""Results on the terminal: for eyes, or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
    """Save a finding where asked, and print it: what it says, and its table as `draw` shows it."""
    saved = None if out is None else finding.save(out)
    if as_json:
        print_json(finding_as_dict(finding) | {"saved": saved})
        return
    print(finding)
    (draw or print_table)(finding.table)
    if saved is not None:
        print(f"saved to {saved}; next: layerscope report {saved}")


def finding_as_dict(finding: Finding) -> dict[str, Any]:
    """All that a finding holds, as JSON can say it."""
    return {
        "question": finding.question,
        "answer": finding.answer(),
        "table": json.loads(finding.table.to_json(orient="records")),
        "notes": list(finding.notes),
        "provenance": vars(finding.provenance),
    }


def print_json(body: dict[str, Any]) -> None:
    """One JSON document on stdout."""
    print(json.dumps(body, indent=1, ensure_ascii=False, default=str))


def print_table(table: pd.DataFrame, columns: Sequence[str] = SHOWN) -> None:
    """The columns that a terminal has room for; `--json` and the saved finding have them all."""
    from rich.console import Console
    from rich.table import Table

    shown = [name for name in columns if name in table and table[name].notna().any()]
    drawn = Table(*shown)
    for line in table[shown].itertuples(index=False):
        drawn.add_row(*(f"{x:.3f}" if isinstance(x, float) else str(x) for x in line))
    Console().print(drawn)
