"""What a page says of each question: words, figures and tables of one finding, or of several models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from layerscope.finding import Finding, Provenance
from layerscope.notebook import shown_notes
from layerscope.report import comparing
from layerscope.report.figures import HEIGHT, captioned, described, embedded
from layerscope.report.layers import layers_of, lines, of_encoder, union
from layerscope.report.summary import group_of
from layerscope.report.tables import TableView, view
from layerscope.wording import opening


@dataclass(frozen=True)
class Panel:
    """One finding."""

    anchor: str
    model: str
    """What it is called beside others; empty where it stands alone."""
    gist: str
    answer: str
    caption: tuple[str, ...]
    """Lines of the figure's title."""
    figure: dict[str, Any]
    alternative: str
    """The figure in words."""
    height: int
    """Pixels to keep free for the figure, so that nothing jumps when it is drawn."""
    page: str
    """What the finding shows under its figure, as HTML."""
    layers: dict[int, str]
    """Layer -> the finding's numbers there, in one line."""
    table: TableView
    provenance: Provenance

    @property
    def marked(self) -> set[int]:
        """Layers that the figure can show."""
        meta = self.figure["layout"].get("meta") or {}
        return {layer for pairs in meta.get("layers", {}).values() for layer, _ in pairs}


@dataclass(frozen=True)
class Section:
    """One question: asked of one model, or of several with the same settings."""

    anchor: str
    group: str
    """The heading of the summary that it stands under."""
    question: str
    detail: str
    """The settings that tell it from other sections with the same question."""
    said: str
    """What was found, as short as the summary needs it."""
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]
    difference: str = ""
    """Where several models differ most, in a sentence."""
    differences: TableView | None = None

    @property
    def shown_notes(self) -> int:
        """How many notes are not folded away."""
        return shown_notes(self.notes)

    @property
    def layers(self) -> set[int]:
        """Layers that its figures, lines and tables speak of."""
        return {layer for panel in self.panels for layer in {*panel.marked, *panel.layers}}

    @property
    def bytes(self) -> int:
        """About what it takes in the file."""
        return sum(
            len(str(panel.figure)) + len(panel.page) + len(panel.table.csv) for panel in self.panels
        )


def sections_of(findings: Sequence[Finding]) -> list[Section]:
    """Sections in the order of the findings, those of different models side by side.

    Raises:
        ValueError: a finding cannot show itself; the message names it.
    """
    sets = comparing.side_by_side(findings)
    details = _details([one[0] for one in sets])
    place = {id(finding): number for number, finding in enumerate(findings, 1)}
    apart = _apart(findings)
    found = []
    for number, (alike, detail) in enumerate(zip(sets, details, strict=True), 1):
        anchor = f"{number}-{_slug(f'{alike[0].question} {detail}')}"
        names = comparing.names_of(alike) if len(alike) > 1 else [""]
        panels = [
            _panel(
                finding,
                place[id(finding)],
                anchor if not n else f"{anchor}-{n + 1}",
                name,
                linked=id(finding) not in apart,
            )
            for n, (finding, name) in enumerate(zip(alike, names, strict=True))
        ]
        found.append(_section(alike, anchor, detail, names, panels))
    return found


def _apart(findings: Sequence[Finding]) -> set[int]:
    """Those about an encoder beside others, where its block 3 would be taken for theirs."""
    encoders = {id(finding) for finding in findings if of_encoder(finding.table)}
    others = (finding.table for finding in findings if id(finding) not in encoders)
    return encoders if encoders and any(map(union, map(layers_of, others))) else set()


def _section(
    alike: Sequence[Finding],
    anchor: str,
    detail: str,
    names: Sequence[str],
    panels: Sequence[tuple[Panel, tuple[str, ...]]],
) -> Section:
    shown = tuple(panel for panel, _ in panels)
    between = comparing.differences(alike, names) if len(alike) > 1 else None
    difference = "" if between is None else comparing.largest(between, names, _unit(alike[0]))
    depths = "" if between is None else comparing.depths(alike, names)
    gists = (panel.gist for panel in shown)
    told = [f"{name}: {text}" if name else text for name, text in zip(names, gists, strict=True)]
    return Section(
        anchor=anchor,
        group=group_of(alike[0]),
        question=alike[0].question,
        detail=detail,
        said=opening(difference) or " ".join(told),
        panels=shown,
        notes=(*filter(None, [depths]), *_notes([(panel.model, own) for panel, own in panels])),
        difference=difference,
        differences=None if between is None else view(between, layers_of(between)),
    )


def _unit(finding: Finding) -> str:
    if "unit" not in finding.table or finding.table["unit"].nunique() != 1:
        return ""
    return str(finding.table["unit"].dropna().iloc[0])


def _panel(
    finding: Finding, number: int, anchor: str, model: str, *, linked: bool
) -> tuple[Panel, tuple[str, ...]]:
    """The panel, linked by its layers to the others or not, and what is to be read with care."""
    try:
        figure, thinning = embedded(finding.figure())
        gist, answer, page = finding.gist(), finding.answer(), finding.page()
    except Exception as error:
        name = f"finding {number} ({type(finding).__name__}: {finding.question})"
        raise ValueError(f"{name} cannot be shown: {error}") from error
    figure, caption = captioned(figure)
    if not linked:
        figure["layout"].pop("meta", None)
    panel = Panel(
        anchor=anchor,
        model=model,
        gist=gist,
        answer=answer,
        caption=caption,
        figure=figure,
        alternative=f"{answer} {described(figure)}",
        height=int(figure["layout"].get("height") or HEIGHT),
        page=page,
        layers=lines(finding.table) if linked else {},
        table=view(finding.table, layers_of(finding.table) if linked else ()),
        provenance=finding.provenance,
    )
    return panel, (*finding.notes, *filter(None, [thinning]))


def _notes(told: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
    """All notes once; one that is not true of every model begins with whose it is."""
    every = dict.fromkeys(note for _, notes in told for note in notes)
    owners = {note: [model for model, notes in told if note in notes] for note in every}
    return tuple(
        note if len(owners[note]) == len(told) else f"{', '.join(owners[note])}: {note}"
        for note in every
    )


def _details(findings: Sequence[Finding]) -> list[str]:
    """For each finding, its model and parameters where findings of the same question differ."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for finding in findings:
        alike.setdefault(finding.question, []).append(_identity(finding))
    return [_difference(_identity(f), alike[f.question]) for f in findings]


def _identity(finding: Finding) -> dict[str, Any]:
    return {"model": comparing.short(finding.provenance.model), **comparing.asked(finding)}


def _difference(mine: dict[str, Any], all_of_them: list[dict[str, Any]]) -> str:
    differing = (
        f"{name}: {value}"
        for name, value in mine.items()
        if isinstance(value, str | int | float)
        and value != ""
        and any(other.get(name) != value for other in all_of_them)
    )
    return ", ".join(islice(differing, 3))


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")[:60]
