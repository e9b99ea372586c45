"""Pictures of what layers know: probes of every kind, erased concepts, wrong labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import layerscope as ls
from layerscope import demo
from layerscope.corpus import Corpus, bundled
from layerscope.probes import kinds
from layerscope.theme import COLORS, SEQUENCE

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from torch import nn

    from layerscope import Finding

QUIET: dict[str, Any] = {"progress": False}
SITES = ["embed", "all"]


def probe(data: Path) -> Finding:
    """Words whose form leaves their class open, in the bundled model."""
    corpus = bundled().take(900)
    return ls.probe(demo.load_model(), SITES, corpus, label="Reading", twin=True, **QUIET)


def mdl(data: Path) -> Finding:
    """Word class in web text, by a model of children's stories."""
    return ls.probe(
        _stories(data), "all", _treebank(data), label="upos", kind="mdl", twin=True, **QUIET
    )


def scalar_mix(data: Path) -> Finding:
    """Word class from all layers at once."""
    return ls.probe(
        _stories(data),
        "all",
        _treebank(data),
        label="upos",
        kind="scalar_mix",
        max_rows=2400,
        **QUIET,
    )


def pooling(data: Path) -> Finding:
    """Who wrote thirty words."""
    corpus = ls.read(list(_passages(data)), group="part", name="thirty words of four books")
    return ls.probe(_stories(data), "all", corpus, label="author", kind="pooling", **QUIET)


def ccs(data: Path) -> Finding:
    """Grammatical or not, found without labels; what is found is number."""
    corpus = ls.read(list(_agreements(data)), name="BLiMP, anaphor number agreement")
    return ls.probe(_stories(data), "all", corpus, label="grammatical", kind="ccs", **QUIET)


def clue(data: Path) -> Finding:
    """Will the bundled model answer this question right?"""
    from layerscope.demo import recall, world

    model = demo.load_model()
    asked = [question for question in world.all_questions() if not question.seen]
    right = recall.answered(model, demo.load_tokenizer(), asked)
    traces = [
        {"text": question.prompt, "correct": bool(good), "person": question.start}
        for question, good in zip(asked, right, strict=True)
    ]
    corpus = ls.read(traces, group="person", name="questions never shown")
    return ls.probe(model, "all", corpus, label="correct", kind="clue", twin=True, **QUIET)


def tree_probes(data: Path) -> Finding:
    """Dependency trees of all bundled sentences."""
    return ls.probe(demo.load_model(), SITES, bundled(), kind="structural", twin=True, **QUIET)


def probe_kinds(data: Path) -> go.Figure:
    """Seven kinds of probe on the same words, and on labels that mean nothing."""
    model = ls.load_model(data / "gpt2_books_steps" / "step2048")
    store = ls.extract(model, _treebank(data).take(800), SITES, **QUIET)
    return _kinds(
        {
            "linear": ls.probe(store, "all", label="upos", **QUIET),
            "MLP": ls.probe(store, "all", label="upos", kind="mlp", **QUIET),
            "ridge": ls.probe(store, "all", label="upos", kind="ridge", **QUIET),
            "LDA": ls.probe(store, "all", label="upos", kind="lda", **QUIET),
            "mass-mean": ls.probe(store, "all", label="upos", kind="mass_mean", **QUIET),
            "prototypes": ls.probe(store, "all", label="upos", kind="prototypes", **QUIET),
            "rank 2": ls.probe(store, "all", label="upos", kind=kinds.LowRank(rank=2), **QUIET),
        }
    )


def concept_erasure(data: Path) -> Finding:
    """Grammatical number taken out of the bundled model."""
    return ls.analyses.concept_erasure(
        demo.load_model(),
        bundled().take(1000),
        SITES,
        label="Number",
        methods=["leace", "inlp"],
        **QUIET,
    )


def label_errors(data: Path) -> Finding:
    """Suspicious word classes in a treebank."""
    return ls.analyses.label_errors(_stories(data), _treebank(data), SITES, label="upos", **QUIET)


def slices(data: Path) -> Finding:
    """Where a probe of word classes errs more than elsewhere."""
    return ls.analyses.slices(_stories(data), _treebank(data), 2, label="upos", **QUIET)


def _stories(data: Path) -> nn.Module:
    return ls.load_model(data / "stories260K" / "hf")


def _treebank(data: Path) -> Corpus:
    corpus = ls.read(data / "ud_english_ewt" / "en_ewt-ud-dev.conllu")
    assert isinstance(corpus, Corpus)
    return corpus


def _passages(data: Path) -> Iterator[dict[str, str]]:
    for author in ("bronte", "darwin", "dubois", "shakespeare"):
        words = (data / "text_books" / f"{author}.txt").read_text()[50_000:].split()
        for i in range(250):
            text = " ".join(words[i * 30 : i * 30 + 30])
            yield {"text": text, "author": author, "part": f"{author} {i // 10}"}


def _agreements(data: Path) -> Iterator[dict[str, Any]]:
    """Both sentences of 1,000 pairs; which of the two comes first is drawn, so no side is the right one."""
    table = pd.read_csv(data / "blimp" / "blimp_half.tsv.gz", sep="\t")
    pairs = table[table["uid"] == "anaphor_number_agreement"].head(1000)
    flips = np.random.default_rng(0).integers(2, size=len(pairs))
    for number, (pair, flip) in enumerate(zip(pairs.itertuples(), flips, strict=True)):
        for good, text in ((True, pair.good), (False, pair.bad)):
            yield {
                "text": text,
                "pair": number,
                "side": "ab"[int(good) ^ int(flip)],
                "grammatical": good,
                "plural": str(text).rstrip(".").endswith("themselves"),
            }


def _kinds(findings: dict[str, Any]) -> go.Figure:
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.1,
        subplot_titles=["The label: word class", "The control: one random label per word"],
    )
    for (name, finding), color in zip(findings.items(), SEQUENCE, strict=False):
        table = finding.table
        print(name, table[["site", "value", "control"]].round(3).to_string(), sep="\n")
        for row, column in ((1, "value"), (2, "control")):
            figure.add_scatter(
                x=table["layer"],
                y=table[column],
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                mode="lines+markers",
                line={"color": color},
                row=row,
                col=1,
            )
    _baseline(figure, findings["linear"].table)
    figure.update_xaxes(tickvals=[-1, 0, 1, 2, 3], ticktext=["embed", "0", "1", "2", "3"])
    figure.update_xaxes(title="layer", row=2, col=1)
    figure.update_yaxes(title="accuracy", range=[0, 0.9], tickformat=".0%")
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    return figure.update_layout(height=680, margin={"t": 84}, legend={"y": 1.07})


def _baseline(figure: go.Figure, table: pd.DataFrame) -> None:
    for row in (1, 2):
        figure.add_scatter(
            x=[-1, 3],
            y=[table["baseline"].iloc[0]] * 2,
            name="commonest class",
            legendgroup="baseline",
            showlegend=row == 1,
            mode="lines",
            line={"color": COLORS["baseline"], "dash": "dot"},
            row=row,
            col=1,
        )
