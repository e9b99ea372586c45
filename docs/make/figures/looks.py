"""Pictures of what layers look like: anatomy, clusters, shapes, neurons, heads, and a whole survey."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import layerscope as ls
from layerscope import demo
from layerscope.corpus import Corpus, bundled
from layerscope.theme import COLORS, DASHES

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from torch import nn

    from layerscope import Finding

QUIET: dict[str, Any] = {"progress": False}
SITES = ["embed", "all"]
STEPS = (0, 64, 256, 512, 1024, 2048)
ASKED = ("similarity", "concept_erasure")
"""Questions of a survey that the picture of one has no panel for."""
TWO = ["cka", "knn"]
ROLES = {"deprel": ["nsubj", "obj", "nmod", "obl"], "Number": None}


def anatomy(data: Path) -> Finding:
    """The bundled model."""
    return ls.anatomy(demo.load_model()).finding()


def word_classes(data: Path) -> Finding:
    """Words by the class of the next word, in the bundled model."""
    return ls.analyses.word_classes(
        demo.load_model(), bundled(), SITES, maps=["umap"], points=600, twin=True, **QUIET
    )


def word_classes_first(data: Path) -> go.Figure:
    """The same words at the embeddings."""
    found = ls.analyses.word_classes(
        demo.load_model(), bundled(), "embed", maps=["umap"], points=600, **QUIET
    )
    return _class_map(found.map("embed", "umap"))


def clusters(data: Path) -> Finding:
    """Groups of words that the last layer of the bundled model makes by itself."""
    return ls.analyses.clusters(demo.load_model(), bundled(), SITES, label="upos", **QUIET)


def geometry(data: Path) -> Finding:
    """Dimensions of the layers of a model of children's stories, on web text."""
    return ls.analyses.geometry(_stories(data), _treebank(data, 600), twin=True, **QUIET)


def similarity(data: Path) -> Finding:
    """All pairs of layers of one model."""
    return ls.analyses.similarity(
        _stories(data), data=_treebank(data, 600), measures=TWO, twin=True, **QUIET
    )


def similarity_steps(data: Path) -> Finding:
    """Layers over training, against the last checkpoint."""
    steps = [data / "gpt2_books_steps" / f"step{step}" for step in STEPS]
    return ls.analyses.similarity(
        steps, data=_treebank(data, 300), measures=TWO, max_rows=1000, **QUIET
    )


def task_geometry(data: Path) -> Finding:
    """Roles and number of nouns in the bundled model."""
    return ls.analyses.task_geometry(
        demo.load_model(),
        bundled(),
        SITES,
        conditions=ROLES,
        targets="deprel",
        ccgp="paired",
        twin=True,
        **QUIET,
    )


def sparsity(data: Path) -> Finding:
    """Neurons of the bundled model at work."""
    return ls.analyses.sparsity(demo.load_model(), bundled().take(400), twin=True, **QUIET)


def attention_modes(data: Path) -> Finding:
    """Heads of the bundled model."""
    return ls.analyses.attention_modes(demo.load_model(), bundled(), windows=32, twin=True, **QUIET)


def learning_regime(data: Path) -> Finding:
    """How far a run of training moved from its first checkpoint."""
    steps = [data / "gpt2_books_steps" / f"step{step}" for step in STEPS]
    return ls.analyses.learning_regime(steps, twin=True, **QUIET)


def _class_map(points: pd.DataFrame) -> go.Figure:
    """One map of words, in the colours that the finding's own figure gives the classes."""
    import plotly.graph_objects as go

    from layerscope.analyses.clustering.class_colours import marks

    figure = go.Figure()
    classes = list(points["next"].value_counts().index)
    for name, (color, symbol) in marks(classes, "other").items():
        here = points[points["next"] == name]
        marker = {"color": color, "symbol": symbol, "size": 7}
        figure.add_scatter(x=here["x"], y=here["y"], mode="markers", marker=marker, name=name)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    title = "Hidden states at the embeddings, by upos of the next word"
    return figure.update_layout(title=title, height=560, margin={"t": 120, "l": 20, "b": 20})


def _stories(data: Path) -> nn.Module:
    return ls.load_model(data / "stories260K" / "hf")


def _treebank(data: Path, texts: int) -> Corpus:
    corpus = ls.read(data / "ud_english_ewt" / "en_ewt-ud-dev.conllu")
    assert isinstance(corpus, Corpus)
    return corpus.take(texts)


def survey(data: Path) -> go.Figure:
    """Six of the questions of a survey of the bundled model, one panel each."""
    from plotly.subplots import make_subplots

    found = ls.analyses.survey(
        demo.load_model(), bundled().take(150), label="upos", skip=ASKED, **QUIET
    )
    panels = list(_panels({type(one).__name__: one for one in found}))
    figure = make_subplots(
        rows=3,
        cols=2,
        subplot_titles=[title for title, _, _ in panels],
        horizontal_spacing=0.11,
        vertical_spacing=0.1,
    )
    for number, (_, lines, beside) in enumerate(panels):
        place = {"row": number // 2 + 1, "col": number % 2 + 1}
        for column, what in (("value", "value"), (beside, "control")):
            figure.add_scatter(
                x=lines["layer"],
                y=lines[column],
                mode="lines+markers" if what == "value" else "lines",
                line={"color": COLORS[what], "dash": DASHES[what]},
                name={"value": "the model", "control": "what it is held against"}[what],
                legendgroup=what,
                showlegend=number == 0,
                **place,
            )
    figure.update_xaxes(tickvals=[-1, *range(8)], ticktext=["embed", *map(str, range(8))])
    # "embed" stands clear of its neighbours: the block 0 and the zero of the other axis.
    figure.update_xaxes(range=[-1.8, 7.4], tickfont_size=11)
    figure.update_xaxes(title="layer", row=3)
    figure.update_yaxes(rangemode="tozero")
    for row, col in ((1, 1), (3, 1), (3, 2)):
        figure.update_yaxes(tickformat=".0%", row=row, col=col)
    figure.update_annotations(font_size=13)
    return figure.update_layout(height=760, margin={"t": 84}, legend={"y": 1.05})


def _panels(found: dict[str, Any]) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Title, lines by layer, and the column that they are held against."""
    yield "Word class read: accuracy", found["ProbeFinding"].table, "control"
    yield "Word class: compression", found["CodeFinding"].sites, "control"
    yield "Apart by the next class: -GDV", _upward(found["WordClassFinding"]), "null_mean"
    geometry = found["GeometryFinding"].measure("participation_ratio")
    yield "Dimensions used of 128", geometry, "null_mean"
    yield (
        "Neurons with 90 % of the energy",
        found["SparsityFinding"].curve("energy", 0.9),
        "baseline",
    )
    yield "Keys with 90 % of attention", _by_layer(found["AttentionModesFinding"]), "baseline"


def _upward(finding: Any) -> pd.DataFrame:
    lines = finding.curve("gdv", "next")
    return lines.assign(value=-lines["value"], null_mean=-lines["null_mean"])


def _by_layer(finding: Any) -> pd.DataFrame:
    """Median over the heads of each layer."""
    heads: pd.DataFrame = finding.heads()
    return heads.groupby("layer", as_index=False)[["value", "baseline"]].median()
