"""What was found, in one plain sentence for each question, by group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerscope.finding import Finding
    from layerscope.report.sections import Section

GROUPS = {
    "The model and the data": ("hooks.", "store.", "corpus.", "demo.recall"),
    "What layers know": (
        "probes.",
        "analyses.mistakes.",
        "analyses.lens",
        "analyses.information.",
    ),
    "What they look like": (
        "analyses.clustering.",
        "analyses.shapes.",
        "analyses.resemblance.",
        "analyses.tasks.",
        "analyses.activity.",
    ),
    "What if": (
        "analyses.erasing.",
        "analyses.erasure",
        "analyses.depth.",
        "analyses.direct_logits",
        "analyses.integrated_gradients",
        "analyses.skipping.",
        "analyses.patches.",
        "analyses.back_patches.",
        "analyses.programs.",
    ),
    "Sparse dictionaries": ("analyses.sae.",),
    "While a network learns": (
        "analyses.planes.",
        "analyses.generalising.",
        "analyses.regimes.",
        "analyses.training.",
    ),
    "The instruments": ("calibration.",),
}
"""Heading -> where the classes of its findings live, in the words and order of the documentation."""
OTHER = "Also"


@dataclass(frozen=True)
class Group:
    """Sentences under one heading."""

    heading: str
    sections: tuple[Section, ...]


def grouped(sections: Iterable[Section]) -> list[Group]:
    """The sections by heading, in the order of `GROUPS`; within each in the order given."""
    held: dict[str, list[Section]] = {heading: [] for heading in (*GROUPS, OTHER)}
    for section in sections:
        held[section.group].append(section)
    return [Group(heading, tuple(found)) for heading, found in held.items() if found]


def group_of(finding: Finding) -> str:
    """The heading under which a finding belongs; a class made from another goes with it."""
    for kind in type(finding).__mro__:
        module = kind.__module__.removeprefix("layerscope.")
        for heading, homes in GROUPS.items():
            if kind.__module__ != module and module.startswith(homes):
                return heading
    return OTHER
