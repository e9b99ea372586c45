"""Findings -> one HTML file: `to_html` is a pure function of them, `report` writes it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerscope.finding import Finding, Provenance
from layerscope.report.figures import described, embedded
from layerscope.report.tables import TableView, view
from layerscope.saved import write_whole
from layerscope.theme import CONFIG, template

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
REPORT_BYTES = 8_000_000
"""A report is mailed; plotly itself takes 4.8 MB of this."""
TITLE = "What the hidden layers know"


@dataclass(frozen=True)
class Section:
    """One finding, as the page shows it."""

    anchor: str
    question: str
    detail: str
    """The settings that tell it from other findings with the same question."""
    answer: str
    figure: dict[str, Any]
    page: str
    """What the finding shows under its figure, as HTML."""
    alternative: str
    """The figure in words."""
    height: int
    """Pixels to keep free for the figure, so that nothing jumps when it is drawn."""
    table: TableView
    notes: tuple[str, ...]
    provenance: Provenance


def report(
    findings: Finding | Iterable[Finding], path: str | Path, *, title: str | None = None
) -> Path:
    """Write the findings, in the order given, as one HTML file that works offline.

    Args:
        findings: Of any kind. `anatomy(model).finding()`, `store.finding()` and
            `corpus.finding()` are findings too; saved ones come from `collect(folders)`.
        path: The file to write; its folder is made, a file of that name is replaced.
        title: Heading of the page.

    Returns:
        The path of the file.

    Raises:
        TypeError: one of the findings is something else.
        ValueError: there are none, one cannot draw itself, or the file would pass 8 MB; the
            message names the finding.
    """
    # Tokens can hold halves of characters, which no file can: those are written as \\udXXX.
    content = to_html(findings, title=title).encode("utf-8", "backslashreplace")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, content)
    return target


def to_html(findings: Finding | Iterable[Finding], *, title: str | None = None) -> str:
    """The whole page as a string; the same findings give the same string, at any time.

    Raises:
        TypeError, ValueError: as `report`.
    """
    from plotly.offline import get_plotlyjs

    given = _checked(findings)
    details = _details(given)
    sections = [
        _section(finding, number, detail)
        for number, (finding, detail) in enumerate(zip(given, details, strict=True), 1)
    ]
    scripts = {"plotly": get_plotlyjs(), "page": (HERE / "report.js").read_text("utf-8")}
    page = (
        _environment()
        .get_template("report.html")
        .render(
            title=title or TITLE,
            sections=sections,
            facts=_facts([finding.provenance for finding in given]),
            dress={
                "templates": {"light": template(), "dark": template(dark=True)},
                "config": CONFIG,
            },
            style=(HERE / "report.css").read_text("utf-8"),
            scripts=scripts,
            hashes=[_hash(text) for text in scripts.values()],
        )
    )
    _check_size(page, sections)
    return page


def _checked(findings: Finding | Iterable[Finding]) -> list[Finding]:
    given = [findings] if isinstance(findings, Finding) else list(findings)
    if not given:
        raise ValueError("no findings to report; give at least one, e.g. probe(model, 'all')")
    for number, finding in enumerate(given, 1):
        if not isinstance(finding, Finding):
            kind = type(finding).__name__
            hint = "give its .finding()" if hasattr(finding, "finding") else "give findings"
            raise TypeError(f"item {number} of the findings is a {kind}, not a finding; {hint}")
    return given


def _details(findings: list[Finding]) -> list[str]:
    """For each finding, its model and parameters where findings of the same question differ."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for finding in findings:
        alike.setdefault(finding.question, []).append(_asked(finding))
    return [_difference(_asked(f), alike[f.question]) for f in findings]


def _asked(finding: Finding) -> dict[str, Any]:
    return {"model": finding.provenance.model, **finding.provenance.parameters}


def _difference(mine: dict[str, Any], all_of_them: list[dict[str, Any]]) -> str:
    differing = (
        f"{name}: {value}"
        for name, value in mine.items()
        if isinstance(value, str | int | float)
        and value != ""
        and not name.startswith("layer_evaluations")  # what it cost is not what was asked
        and any(other.get(name) != value for other in all_of_them)
    )
    return ", ".join(islice(differing, 3))


def _section(finding: Finding, number: int, detail: str) -> Section:
    name = f"finding {number} ({type(finding).__name__}: {finding.question})"
    try:
        figure, thinning = embedded(finding.figure())
        answer = finding.answer()
        page = finding.page()
    except Exception as error:
        raise ValueError(f"{name} cannot be shown: {error}") from error
    return Section(
        anchor=f"{number}-{_slug(f'{finding.question} {detail}')}",
        question=finding.question,
        detail=detail,
        answer=answer,
        figure=figure,
        page=page,
        alternative=f"{answer} {described(figure)}",
        height=int(figure["layout"].get("height") or 420),
        table=view(finding.table),
        notes=(*finding.notes, *filter(None, [thinning])),
        provenance=finding.provenance,
    )


def _facts(sources: list[Provenance]) -> dict[str, str]:
    """The line under the title: what all of it is about, and when it was computed."""
    dates = sorted(source.created[:10] for source in sources if source.created)
    found = {
        "Model": _listed(source.model for source in sources),
        "Data": _listed(source.data for source in sources),
        "Computed": " to ".join(dict.fromkeys(dates[:1] + dates[-1:])),
        "layerscope": _listed(source.versions.get("layerscope", "") for source in sources),
    }
    return {name: value for name, value in found.items() if value}


def _listed(values: Iterable[str]) -> str:
    """The distinct values; one that another repeats and goes on from is told by the longer."""
    distinct = list(dict.fromkeys(value for value in values if value))
    told = [v for v in distinct if not any(other.startswith(f"{v}, ") for other in distinct)]
    more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
    return "; ".join(told[:3]) + more


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")[:60]


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _check_size(page: str, sections: list[Section]) -> None:
    size = len(page.encode("utf-8", "backslashreplace"))
    if size <= REPORT_BYTES:
        return
    sizes = {
        f"{s.question} {s.detail}".strip(): len(json.dumps(s.figure))
        + len(s.page)
        + len(s.table.csv)
        for s in sections
    }
    largest = sorted(sizes, key=lambda question: -sizes[question])[:3]
    named = "; ".join(f"{question} ({sizes[question] / 1e6:.1f} MB)" for question in largest)
    raise ValueError(
        f"the report would take {size / 1e6:.1f} MB, more than {REPORT_BYTES / 1e6:.0f} MB; "
        f"write several reports. The largest findings: {named}"
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
