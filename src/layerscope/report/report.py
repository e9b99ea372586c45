"""Findings -> one HTML file: `to_html` is a pure function of them, `report` writes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from layerscope.finding import Finding, Provenance
from layerscope.report import scripts
from layerscope.report.layers import named, union
from layerscope.report.sections import Section, sections_of
from layerscope.report.summary import grouped
from layerscope.saved import write_whole
from layerscope.theme import CONFIG, template

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
REPORT_BYTES = 10_000_000
"""A report is mailed; plotly itself takes 2.0 MB of this."""
TITLE = "What the hidden layers know"
STRIP_LABELS = {"wide": 18, "narrow": 11}
"""Layers of the strip that have their name written on them, on a wide page and on a phone."""


def report(
    findings: Finding | Iterable[Finding], path: str | Path, *, title: str | None = None
) -> Path:
    """Write the findings, in the order given, as one HTML file that works offline.

    Findings of one question on the same data with the same settings, but of different models, share a
    section: figures beside each other, differences first.

    Args:
        findings: Of any kind. `anatomy(model).finding()`, `store.finding()` and
            `corpus.finding()` are findings too; saved ones come from `collect(folders)`.
        path: The file to write; its folder is made, a file of that name is replaced.
        title: Heading of the page.

    Returns:
        The path of the file.

    Raises:
        TypeError: one of the findings is something else.
        ValueError: there are none, one cannot draw itself, or the file would pass 10 MB; the
            message names the finding. Or `path` is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"{target} is a folder; give a file in it: {target / 'report.html'}")
    # Tokens can hold halves of characters, which no file can: those are written as \\udXXX.
    content = to_html(findings, title=title).encode("utf-8", "backslashreplace")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, content)
    return target


def to_html(findings: Finding | Iterable[Finding], *, title: str | None = None) -> str:
    """The whole page as a string; the same findings give the same string, at any time.

    Raises:
        TypeError: as `report`.
        ValueError: as `report`.
    """
    given = _checked(findings)
    sections = sections_of(given)
    plotly, plotly_hash = scripts.plotly()
    own = scripts.own()
    page = (
        _environment()
        .get_template("report.html")
        .render(
            title=title or TITLE,
            sections=sections,
            groups=grouped(sections),
            layers=_strip(sections),
            facts=_facts([finding.provenance for finding in given]),
            dress={
                "templates": {"light": template(), "dark": template(dark=True)},
                "config": CONFIG,
            },
            style=(HERE / "report.css").read_text("utf-8"),
            plotly=plotly,
            script=own,
            hashes=[plotly_hash, scripts.hash_of(own)],
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


def _strip(sections: Sequence[Section]) -> list[dict[str, object]]:
    """The layers to choose from, with their names and where these are written; none below two."""
    layers = union(section.layers for section in sections)
    if len(layers) < 2 or not any(panel.marked for s in sections for panel in s.panels):
        return []
    steps = {page: -(-len(layers) // most) for page, most in STRIP_LABELS.items()}
    return [
        {
            "layer": layer,
            "label": "embed" if layer < 0 else layer,
            "name": named(layer),
            "written": " ".join(page for page, step in steps.items() if place % step == 0),
        }
        for place, layer in enumerate(layers)
    ]


def _facts(sources: list[Provenance]) -> dict[str, str]:
    """The line under the title: what all of it is about, and when it was computed."""
    dates = sorted(source.created[:10] for source in sources if source.created)
    found = {
        "Model": _listed(_without_folders(source.model) for source in sources),
        "Data": _listed(_data(source.data for source in sources)),
        "Computed": " to ".join(dict.fromkeys(dates[:1] + dates[-1:])),
        "layerscope": _listed(source.versions.get("layerscope", "") for source in sources),
    }
    return {name: value for name, value in found.items() if value}


def _data(told: Iterable[str]) -> list[str]:
    """Each name once: which part of it a finding has read stands in its own provenance.

    >>> _data(["books[:60], 8 windows", "books, 900 tokens", "poems, 3 texts"])
    ['books', 'poems, 3 texts']
    """
    parts: dict[str, set[str]] = {}
    for text in told:
        parts.setdefault(re.split(r"\[|[,:] \d", text)[0], set()).add(text)
    return [name if len(every) > 1 else every.pop() for name, every in parts.items()]


def _without_folders(model: str) -> str:
    """The end of a path is enough of it up here.

    >>> _without_folders("GPT2LMHeadModel at /data/books/step8, 940,800 parameters")
    'GPT2LMHeadModel at books/step8, 940,800 parameters'
    """
    return re.sub(r"(?<= at )\S*/(?=[^/\s]+/[^/\s]+)", "", model)


def _listed(values: Iterable[str]) -> str:
    """The distinct values; one that another repeats and goes on from is told by the longer."""
    distinct = list(dict.fromkeys(value for value in values if value))
    told = [v for v in distinct if not any(other.startswith(f"{v}, ") for other in distinct)]
    more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
    return "; ".join(told[:3]) + more


def _check_size(page: str, sections: Sequence[Section]) -> None:
    size = len(page.encode("utf-8", "backslashreplace"))
    if size <= REPORT_BYTES:
        return
    largest = sorted(sections, key=lambda section: -section.bytes)[:3]
    told = "; ".join(
        f"{f'{one.question} {one.detail}'.strip()} ({one.bytes / 1e6:.1f} MB)" for one in largest
    )
    raise ValueError(
        f"the report would take {size / 1e6:.1f} MB, more than {REPORT_BYTES / 1e6:.0f} MB; "
        f"write several reports. The largest findings: {told}"
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
