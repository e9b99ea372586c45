"""What `layerscope demo` runs: every step of the toolkit on the bundled model, into one report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from layerscope.probes.finding import ProbeFinding

if TYPE_CHECKING:
    from torch import nn

    from layerscope.corpus import Corpus
    from layerscope.finding import Finding
    from layerscope.probes.reading.labels import Task
    from layerscope.store import Store

SENTENCES = 900
QUICK_SENTENCES = 250
SITES = ("embed", "all")
TITLE = "A tiny bundled language model, layer by layer"
MODEL = "layerscope's demonstration model (bundled)"
ABOUT = (
    (
        "This is the tiny model that comes with layerscope: 8 blocks of width 128, trained on "
        "generated sentences and on invented facts. What the report shows is true of this model, "
        "and of no larger one."
    ),
    (
        "The same on your own model and texts, from a shell: layerscope probe MODEL TEXTS.conllu "
        "--label upos --out upos, then layerscope report upos. In Python: probe(model, 'all', "
        "read('TEXTS.conllu'), label='upos'), then report([finding], 'report.html')."
    ),
)


class Asked(ProbeFinding):
    """A probe of the demonstration: the label it reads, and why that label is worth reading."""

    label: ClassVar[str]
    what: ClassVar[str]
    """The label in words."""
    why: ClassVar[str]
    task: ClassVar[Task] = "class"

    @property
    def subject(self) -> str:
        """What is read, in words."""
        return self.what


class WordClass(Asked):
    """Word class of all words."""

    question = "Which layers know the class of a word?"
    label = "upos"
    what = "the class of a word"
    why = (
        "Most words have one class wherever they stand, so which word it is tells most, even in an "
        "untrained model's embeddings; what the trained curve gains after them comes from context."
    )


class OpenWordClass(Asked):
    """Word class where the form alone does not tell it."""

    question = "And where the form of the word leaves its class open?"
    label = "Reading"
    what = "word class, where the form leaves it open,"
    why = (
        "Only words such as 'watch', 'plants' and 'light', and invented ones such as 'blicks': the "
        "embedding can do no better than guess, context decides."
    )


class HiddenNumber(Asked):
    """Number of the subject, at verbs that do not show it."""

    question = "Does a verb know how many are meant when its form does not say?"
    label = "Number[subj]"
    what = "the number a verb does not show"
    why = (
        "Read at verbs such as 'can' and 'saw': the number must be fetched from the subject, past "
        "nouns of the other number ('the key to the cabinets')."
    )


class ParseDepth(Asked):
    """Depth of the word in the parse."""

    question = "How deep in the sentence does a word stand?"
    label = "depth"
    what = "how deep a word stands in the sentence"
    task = "number"
    why = "Steps from each word up to the main predicate. The model was never shown a tree."


QUESTIONS: tuple[type[Asked], ...] = (WordClass, OpenWordClass, HiddenNumber, ParseDepth)
QUICK_QUESTIONS: tuple[type[Asked], ...] = (WordClass, ParseDepth)


def run(out: str | Path, *, quick: bool = False, progress: bool = True) -> Path:
    """Run the bundled model through the toolkit and write the report.

    Args:
        out: The HTML file to write.
        quick: Fewer sentences and questions, two probes instead of four, no untrained twin, and
            back-patching at the last token only.
        progress: Whether to show progress bars.

    Returns:
        The path of the report.
    """
    from layerscope.report import report

    return report(findings(quick=quick, progress=progress), out, title=TITLE)


def findings(*, quick: bool = False, progress: bool = True) -> list[Finding]:
    """Anatomy, data, probes, the look of the layers, what-ifs, and facts, in this order."""
    from layerscope.corpus import bundled
    from layerscope.demo import load_model
    from layerscope.demo.chains import chains, unseen
    from layerscope.demo.looks import looks
    from layerscope.demo.recall import recall
    from layerscope.demo.what_ifs import what_ifs
    from layerscope.hooks.anatomy import anatomy

    model = load_model()
    corpus = bundled().take(QUICK_SENTENCES if quick else SENTENCES)
    store = _activations(model, corpus, progress)
    twin = None if quick else _untrained(model, corpus, progress)
    asked = unseen()[::2] if quick else None
    structure = anatomy(model).finding()
    return [
        _named(replace(structure, notes=(*ABOUT, *structure.notes))),
        _named(store.finding()),
        *(
            _named(_ask(kind, store, twin if kind is WordClass else None, progress))
            for kind in (QUICK_QUESTIONS if quick else QUESTIONS)
        ),
        *map(_named, looks(model, store, twin, corpus, quick=quick, progress=progress)),
        *map(_named, what_ifs(model, corpus, quick=quick, progress=progress)),
        _named(recall(model)),
        _named(chains(model, questions=asked, names=not quick, progress=progress)),
    ]


def _activations(model: nn.Module, corpus: Corpus, progress: bool) -> Store:
    from layerscope.demo import load_tokenizer
    from layerscope.hooks.extract import extract

    tokenizer = load_tokenizer()
    return extract(model, corpus, SITES, rows="words", tokenizer=tokenizer, progress=progress)


def _untrained(model: nn.Module, corpus: Corpus, progress: bool) -> Store:
    from layerscope.hooks.twin import untrained_twin

    return _activations(untrained_twin(model), corpus, progress)


def _ask(kind: type[Asked], store: Store, twin: Store | None, progress: bool) -> Asked:
    from layerscope.probes.probe import probe

    found = probe(
        store, "all", label=kind.label, task=kind.task, twin=twin or False, progress=progress
    )
    return kind(found.table, found.provenance, (kind.why, *found.notes))


def _named(finding: Finding) -> Finding:
    """The finding under the model's name; the folder it was loaded from says nothing to readers."""
    return replace(finding, provenance=replace(finding.provenance, model=MODEL))
