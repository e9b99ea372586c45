"""How the measures of an SAE are drawn: panels below each other, one question each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.analyses.sae.measuring.norms import CONES
from layerscope.analyses.sae.measuring.sae_panels import density, kept, norms, probing
from layerscope.theme import plain, themed

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from layerscope.analyses.sae.measuring.sae_finding import SAEFinding

TOP, BOTTOM = 222, 90
HEIGHTS = {"kept": 4.0, "probing": 4.0, "density": 4.0, "norms": 6.2}
GAP = 2.5


def panels(finding: SAEFinding) -> go.Figure:
    """Every panel that the table has lines for."""
    import plotly.graph_objects as go

    table = finding.table
    wanted = ["kept"] + ["probing"] * bool((table["group"] == "probing").any())
    wanted += ["density", "norms"]
    figure = go.Figure()
    domains = _domains(wanted)
    draw = {"kept": kept, "probing": probing, "density": density, "norms": norms}
    named: set[str] = set()
    for number, name in enumerate(wanted, start=1):
        axis = "" if number == 1 else str(number)
        draw[name](figure, finding, axis, domains[name], named)
        _head(figure, *_titles(finding)[name], domains[name][1])
    rows = int(table.loc[table["key"] == "l0", "n"].iloc[0])
    l0 = finding.value("l0")
    figure.update_layout(
        title={
            "text": "What a sparse autoencoder keeps<br><span style='font-size:13px'>"
            f"{_place(finding)}<br>{l0:.1f} of {finding.latents:,} latents at a time; {rows:,} rows"
            "</span>",
            "y": 1 - 18 / _height(wanted),
            "yanchor": "top",
            "automargin": False,
        },
        height=_height(wanted),
        margin={"t": TOP, "b": BOTTOM, "l": 104, "r": 40},
        legend={
            "x": 0,
            "y": 1 + 42 / _drawn(wanted),
            "yanchor": "bottom",
            "font": {"size": 12},
        },
        hovermode="closest",
        bargap=0.08,
    )
    return themed(figure)


def _titles(finding: SAEFinding) -> dict[str, tuple[str, str]]:
    """Heading of each panel, and what its marks are."""
    dead = finding.line("dead_share")
    count = round(float(dead["value"]) * finding.latents)
    never = f"never: {count:,} of {finding.latents:,} latents in {dead['n']:,} rows"
    line = "line: yes; below: parts are missing, or latents overlap"
    dots = f"dots: rows; dotted: | |z|² - |f|² | / |f|² of {', '.join(map(str, CONES))}"
    return {
        "kept": ("What is kept by so few latents", "1: all of it; bars: 95 % over texts"),
        "probing": ("How well a label is read from few latents", "held-out texts; chance is 0.5"),
        "density": ("How often latents are active", f"dashed: random directions<br>{never}"),
        "norms": ("Are codes as long as what they stand for?", f"{line}<br>{dots}"),
    }


def _place(finding: SAEFinding) -> str:
    site = str(finding.provenance.parameters.get("site") or "")
    return plain(site) if site else "rows of no named site"


def _height(wanted: list[str]) -> int:
    return TOP + BOTTOM + _drawn(wanted)


def _drawn(wanted: list[str]) -> int:
    """Pixels from the first panel's top to the last one's bottom."""
    return round(52 * (sum(HEIGHTS[name] for name in wanted) + GAP * (len(wanted) - 1)))


def _domains(wanted: list[str]) -> dict[str, tuple[float, float]]:
    whole = sum(HEIGHTS[name] for name in wanted) + GAP * (len(wanted) - 1)
    top, found = whole, {}
    for name in wanted:
        found[name] = (max(0.0, (top - HEIGHTS[name]) / whole), top / whole)
        top -= HEIGHTS[name] + GAP
    return found


def _head(figure: go.Figure, title: str, below: str, top: float) -> None:
    figure.add_annotation(
        text=f"<b>{title}</b><br><span style='font-size:12px'>{below}</span>", x=0, xref="paper",
        y=top, yref="paper", xanchor="left", yanchor="bottom", yshift=6, xshift=-80,
        showarrow=False, align="left", font={"size": 14},
    )  # fmt: skip
