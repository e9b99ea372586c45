"""What `layerscope demo` runs: every step of the toolkit on the bundled model, into one report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerscope.finding import Finding

SITES = ("embed", "all")
TITLE = "A tiny language model, layer by layer"
ABOUT = (
    (
        "This is the demonstration model that comes with layerscope: 8 blocks of width 128, 1.5 million "
        "parameters, trained on generated sentences and a small world of invented facts. What it shows "
        "is true of this model and of nothing larger."
    ),
    (
        "The same on your own: `layerscope probe MODEL DATA.conllu --label upos --out upos` and "
        "`layerscope report upos`; or in Python `probe(model, 'all', read('DATA.conllu'), "
        "label='upos')`, then `report([finding], 'report.html')`."
    ),
)


@dataclass(frozen=True)
class Question:
    """One label to read from every layer, and what makes it worth reading."""

    label: str
    why: str
    quick: bool = False
    """Whether the quick battery asks it too."""
    twin: bool = False
    """Whether an untrained copy of the model is probed beside it."""


QUESTIONS = (
    Question(
        "upos",
        "Word class. Most words have one class wherever they stand, so the embedding already knows "
        "much, and so would an untrained model; the rise after it is what context adds.",
        quick=True,
        twin=True,
    ),
    Question(
        "Reading",
        "Word class of those words only whose form leaves it open: 'watch', 'plants', 'light', and "
        "invented words such as 'blicks'. The embedding can only guess; context decides.",
    ),
    Question(
        "Number[subj]",
        "Number of the subject, read at verbs that do not show it ('can', 'saw'). The model has to "
        "fetch it from the subject, past nouns of the other number.",
    ),
    Question(
        "depth",
        "Depth of each word in the parse tree: the number of steps up to the main predicate. The "
        "model was never shown a tree.",
        quick=True,
    ),
)


def run(out: str | Path, *, quick: bool = False, progress: bool = True) -> Path:
    """Run the bundled model through the toolkit and write the report.

    Args:
        out: The HTML file to write.
        quick: Fewer sentences, two probes instead of four.
        progress: Whether to show progress bars.

    Returns:
        The path of the report.
    """
    from layerscope.report import report

    return report(findings(quick=quick, progress=progress), out, title=TITLE)


def findings(*, quick: bool = False, progress: bool = True) -> list[Finding]:
    """Anatomy, data, a probe for each label, and the recall of facts, in the order of the report."""
    from layerscope.corpus import bundled
    from layerscope.demo import load_model
    from layerscope.demo.recall import recall
    from layerscope.hooks.anatomy import anatomy
    from layerscope.hooks.extract import extract
    from layerscope.probes.probe import probe

    model = load_model()
    corpus = bundled().take(QUICK_SENTENCES if quick else SENTENCES)
    store = extract(model, corpus, SITES, rows="words", progress=progress)
    anatomy_finding = anatomy(model).finding()
    found: list[Finding] = [
        replace(anatomy_finding, notes=(*ABOUT, *anatomy_finding.notes)),
        store.finding(),
    ]
    for question in QUESTIONS:
        if quick and not question.quick:
            continue
        twin = question.twin and not quick
        finding = probe(store, "all", label=question.label, twin=twin, progress=progress)
        found.append(replace(finding, notes=(question.why, *finding.notes)))
    return [*found, recall(model)]


SENTENCES = 700
QUICK_SENTENCES = 250
