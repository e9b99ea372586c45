"""The table of expected, measured and verdict, as the report shows it under the figure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from layerscope.calibration.words import AS_EXPECTED, MARKS, expected, measured

if TYPE_CHECKING:
    import pandas as pd

STYLE = """
.calibration { --good: light-dark(#00795a, #35b48c); --bad: light-dark(#b54f00, #f09a55); }
.calibration h3 { margin: 2.2rem 0 0.2rem; font-size: 1.05rem; }
.calibration h3 span { margin-left: 0.5rem; color: var(--muted, #5a616a); font-weight: 400; font-size: 0.875rem; }
.calibration table { width: 100%; margin: 0; table-layout: fixed; border-collapse: collapse; font-size: 0.875rem; line-height: 1.45; font-variant-numeric: tabular-nums; }
.calibration th, .calibration td { padding: 0.28rem 0.9rem 0.28rem 0; text-align: left; vertical-align: top; border: 0; }
.calibration thead th { color: var(--muted, #5a616a); font-weight: 600; font-size: 0.78rem; border-bottom: 1px solid var(--rule, #e1e3e6); }
.calibration tbody th { padding-top: 0.9rem; font-weight: 400; color: var(--muted, #5a616a); }
.calibration tbody th b { margin-right: 0.7rem; color: var(--ink, inherit); font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 0.94em; }
.calibration tbody + tbody tr:first-child > * { border-top: 1px solid var(--rule, #e1e3e6); }
.calibration .quantity { padding-left: 1rem; }
.calibration thead th:first-child { width: 42%; }
.calibration thead th:last-child { width: 7.2rem; padding-right: 0; }
.calibration .verdict { white-space: nowrap; padding-right: 0; }
.calibration .verdict i { display: inline-block; width: 1.2em; font-style: normal; font-weight: 700; }
.calibration .fine { color: var(--good); }
.calibration .wrong { color: var(--bad); font-weight: 600; }
.calibration td { overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  .calibration table, .calibration thead, .calibration tbody { display: block; }
  .calibration tr { display: grid; grid-template-columns: 1fr 1fr 6.6rem; }
  .calibration tbody th, .calibration .quantity { grid-column: 1 / -1; }
  .calibration .quantity { width: auto; padding: 0.5rem 0 0; }
  .calibration thead th:first-child { display: none; }
  .calibration thead th:last-child { width: auto; }
}
"""


def page(table: pd.DataFrame) -> str:
    """Families in order, in each the instruments, what was planted, and their readings."""
    families = "".join(
        _family(str(family), own) for family, own in table.groupby("family", sort=False)
    )
    return (
        f'<style>{STYLE}</style><div class="calibration"><p>Expected values are those of the plant: a '
        "closed form, or how it was built. What is allowed is rounding, or three standard errors where "
        f"the plant is a sample.</p>{families}</div>"
    )


def _family(family: str, lines: pd.DataFrame) -> str:
    fine = int((lines["verdict"] == AS_EXPECTED).sum())
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("quantity", "expected", "measured", "verdict")
    )
    bodies = "".join(_instrument(own) for _, own in lines.groupby("instrument", sort=False))
    return (
        f"<h3>{escape(family)}<span>{fine} of {len(lines)} as expected</span></h3>"
        f"<table><thead><tr>{head}</tr></thead>{bodies}</table>"
    )


def _instrument(lines: pd.DataFrame) -> str:
    first = lines.iloc[0]
    rows = "".join(_row(row) for row in lines.itertuples())
    name, planted, source = (escape(str(first[c])) for c in ("instrument", "planted", "source"))
    return (
        f'<tbody><tr><th scope="rowgroup" colspan="4" title="Expected from: {source}"><b>{name}</b>'
        f"{planted}</th></tr>{rows}</tbody>"
    )


def _row(row: Any) -> str:
    kind = "fine" if row.verdict == AS_EXPECTED else "wrong"
    told = "".join(f"<td>{escape(said)}</td>" for said in (expected(row), measured(row)))
    return (
        f'<tr><td class="quantity">{escape(row.quantity)}</td>{told}'
        f'<td class="verdict {kind}"><span><i aria-hidden="true">'
        f"{MARKS[row.verdict]}</i>{row.verdict}</span></td></tr>"
    )
