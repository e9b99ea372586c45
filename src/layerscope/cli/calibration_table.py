"""The table of `layerscope calibrate` on a terminal: a line for each reading, as soon as it is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from layerscope.calibration.words import AS_EXPECTED, FAILED, MARKS, OFF, expected, measured

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from layerscope.calibration.calibrate import Row
    from layerscope.calibration.finding import Calibration
    from layerscope.calibration.instrument import Instrument

STYLES = {AS_EXPECTED: "green", OFF: "bold yellow", FAILED: "bold red"}
NARROW, WIDE = 72, 118
"""Below the first only signs say the verdict; above the second lines grow no longer."""


class Growing:
    """Prints readings instrument by instrument, under the name of each family.

    Args:
        silent: Print nothing at all.
        brief: Print only what is not as expected.
    """

    def __init__(
        self, chosen: Sequence[Instrument], *, silent: bool = False, brief: bool = False
    ) -> None:
        from rich.console import Console

        self.console: Console = Console(quiet=silent, highlight=False)
        if not self.console.is_terminal:
            self.console.width = WIDE
        self.chosen, self.brief = chosen, brief
        self.width = min(self.console.width, WIDE)

    def watch(self, results: Iterable[tuple[Instrument, list[Row]]]) -> list[Row]:
        """All rows, printed as they come; on a terminal a line below says what is measuring."""
        found: list[Row] = []
        family = ""
        waiting: Any = self.console.status("") if self.console.is_terminal else nullcontext()
        with waiting as status:
            self._now(status, 0)
            for number, (instrument, rows) in enumerate(results, 1):
                if not self.brief and instrument.family != family:
                    family = instrument.family
                    self._heading(family)
                self._instrument(instrument, rows)
                self._now(status, number)
                found += rows
        return found

    def close(self, finding: Calibration, written: Sequence[Path]) -> None:
        """The answer, and where it was written."""
        from rich.text import Text

        style = "bold green" if finding.passed else "bold yellow"
        if not self.brief:
            self.console.print()
        self.console.print(Text(finding.answer(), style))
        for path in written:
            self.console.print(f"written: {path}", markup=False, soft_wrap=True)

    def _now(self, status: Any, done: int) -> None:
        if status is not None and done < len(self.chosen):
            status.update(f"[dim]{done} of {len(self.chosen)}; now {self.chosen[done].name}[/dim]")

    def _heading(self, family: str) -> None:
        from rich.text import Text

        head = self._table()
        names = ("", family, "expected", "measured", "verdict")
        styles = ("", "bold blue", "dim", "dim", "dim")
        cells = [Text(name, style) for name, style in zip(names, styles, strict=True)]
        head.add_row(*cells[: len(head.columns)])
        self.console.print()
        self.console.print(head)
        self.console.print(Text("─" * self.width, "dim"))

    def _instrument(self, instrument: Instrument, rows: Sequence[Row]) -> None:
        from rich.text import Text

        shown = [row for row in rows if not self.brief or row["verdict"] != AS_EXPECTED]
        if not shown:
            return
        planted = Text.assemble((instrument.name, "bold"), "  ", (instrument.planted, "dim"))
        self.console.print(planted, width=self.width)
        table = self._table()
        for row in map(_as_row, shown):
            style = STYLES[row.verdict]
            cells = [
                Text(MARKS[row.verdict], style),
                Text(row.quantity),
                Text(expected(row)),
                Text(measured(row), "" if row.verdict == AS_EXPECTED else style),
                Text(row.verdict, style),
            ]
            table.add_row(*cells[: len(table.columns)])
        self.console.print(table)

    def _table(self) -> Table:
        """An empty one; all have the same columns, so that they stand below each other."""
        from rich.table import Table

        verdict = 11 if self.width >= NARROW else 0
        rest = self.width - 5 - verdict - 2 * (verdict > 0)
        widths = [rest - 2 * (rest * 26 // 100) - 4, rest * 26 // 100, rest * 26 // 100]
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(width=3, justify="right")
        for width in widths:
            table.add_column(width=width, overflow="fold")
        if verdict:
            table.add_column(width=verdict)
        return table


def listed(chosen: Sequence[Instrument], as_json: bool) -> None:
    """The instruments by family, without measuring."""
    from rich.console import Console
    from rich.text import Text

    from layerscope.cli.printing import print_json

    if as_json:
        fields = ("name", "family", "planted", "source")
        print_json({"instruments": [{f: getattr(one, f) for f in fields} for one in chosen]})
        return
    console = Console(highlight=False)
    room = max(len(one.name) for one in chosen) + 2
    for family in dict.fromkeys(one.family for one in chosen):
        console.print(Text(f"\n{family}", "bold blue"))
        for one in chosen:
            if one.family == family:
                line = Text.assemble((one.name.ljust(room), "bold"), (one.planted, "dim"))
                console.print(line, soft_wrap=not console.is_terminal)
    console.print(f"\n{len(chosen)} instruments; layerscope calibrate NAME measures one of them")


def _as_row(row: Row) -> Any:
    return SimpleNamespace(**row)
