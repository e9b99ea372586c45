"""Findings made up for the report's tests: the shapes that real analyses return."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from selenium import webdriver
from tests.report.pages import FLAGS

from layerscope.finding import Finding, Provenance
from layerscope.notebook import MOST_NOTES
from layerscope.report import report
from layerscope.theme import COLORS, DASHES, faded, mark_layers

PROVENANCE = Provenance(
    model="LlamaForCausalLM, 292,800 parameters",
    data="en_ewt-ud-dev, 2,001 sentences",
    store_key="0123456789abcdef0123456789abcdef",
    parameters={"label": "upos", "layers": "all", "folds": 5},
    seed=0,
    versions={"python": "3.11.9", "layerscope": "0.1.0", "torch": "2.13.0"},
    seconds=12.345,
    created="2026-01-02T03:04:05+00:00",
    call='probe(store, "all", label="upos")',
)


class Curve(Finding):
    """Like a probe: one value per layer with its interval and its control."""

    question: ClassVar[str] = "At which layer can the word class be read off?"

    def answer(self) -> str:
        best = self.table.iloc[int(self.table["value"].argmax())]
        return (
            f"Best at layer {best['layer']}: {best['value']:.3f} correct, "
            f"against {best['baseline']:.3f} for always guessing the most frequent class."
        )

    def figure(self) -> go.Figure:
        t = self.table
        figure = go.Figure()
        band = np.concatenate([t["ci_high"], t["ci_low"][::-1]])
        figure.add_scatter(
            x=np.concatenate([t["layer"], t["layer"][::-1]]),
            y=band,
            mode="lines",
            fill="toself",
            fillcolor=faded(COLORS["value"], 0.18),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
        for name, role in (("value", "value"), ("null_mean", "control"), ("baseline", "baseline")):
            style = {"color": COLORS[role], "dash": DASHES[role]}
            figure.add_scatter(x=t["layer"], y=t[name], name=name, line=style)
        figure.update_layout(xaxis_title="layer", yaxis_title="accuracy")
        return mark_layers(figure, t["layer"])


class Bars(Finding):
    question: ClassVar[str] = "Which word classes are found most often?"

    def answer(self) -> str:
        return f"{self.table['upos'].iloc[0]}, with a recall of {self.table['recall'].iloc[0]:.2f}."

    def figure(self) -> go.Figure:
        bars = go.Bar(x=self.table["upos"], y=self.table["recall"], marker_color=COLORS["value"])
        return go.Figure(bars).update_layout(yaxis_title="recall")


class Heat(Finding):
    question: ClassVar[str] = "How alike are the layers?"

    def answer(self) -> str:
        return "Neighbours are alike; the first and the last layer are not."

    def figure(self) -> go.Figure:
        wide = self.table.pivot(index="layer", columns="other", values="cka")
        figure = go.Figure(go.Heatmap(z=wide.to_numpy(), x=wide.columns, y=wide.index))
        return mark_layers(figure, wide.columns, "x", "y")


class Tree(Finding):
    """Like an anatomy: text in most columns, and a figure with shapes."""

    question: ClassVar[str] = "What is this model made of?"

    def answer(self) -> str:
        return "2 blocks of width 64; all 3 checks by numbers pass."

    def figure(self) -> go.Figure:
        t = self.table
        marks = go.Scatter(
            x=[0] * len(t),
            y=t["site"],
            mode="markers+text",
            text=t["shape"],
            textposition="middle right",
        )
        return go.Figure(marks).update_layout(yaxis_autorange="reversed")


def curve() -> Curve:
    value = np.array([0.622, 0.722, 0.773, 0.791, 0.777, 0.766])
    table = pd.DataFrame(
        {
            "site": [f"blocks.{i}.resid_post" for i in range(6)],
            "layer": range(6),
            "value": value,
            "ci_low": value - 0.012,
            "ci_high": value + 0.011,
            "null_mean": value * 0.4,
            "baseline": 0.171,
            "n": 25_148,
            "unit": "accuracy",
        }
    )
    return Curve(table, PROVENANCE, ("The control is one draw of random labels per word type.",))


def bars() -> Bars:
    upos = pd.Categorical(["NOUN", "X", "VERB", "PUNCT"])
    table = pd.DataFrame(
        {"upos": upos, "recall": [0.91, np.nan, 0.83, 0.995], "rare": [0, 1, 0, 0]}
    )
    return Bars(table.astype({"rare": bool}), PROVENANCE)


def heat() -> Heat:
    pairs = [(i, j, float(np.exp(-abs(i - j) / 3))) for i in range(8) for j in range(8)]
    notes = tuple(f"Layers are compared on rows of kind {i}." for i in range(MOST_NOTES + 2))
    return Heat(pd.DataFrame(pairs, columns=["layer", "other", "cka"]), PROVENANCE, notes)


def tree() -> Tree:
    sites = [
        "embed",
        "blocks.0.resid_mid",
        "blocks.0.resid_post",
        "blocks.1.resid_post",
        "norm",
        "logits",
    ]
    table = pd.DataFrame(
        {"site": sites, "shape": ["b p 64"] * 5 + ["b p 512"], "verdict": ["passed"] * 5 + [None]}
    )
    return Tree(table, PROVENANCE, ("logits: not checked, the model scales them.",))


@pytest.fixture(scope="session")
def findings() -> list[Finding]:
    """One of each shape: a tree, a curve with a band, bars and a heat map."""
    return [tree(), curve(), bars(), heat()]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        missing = "chromium and chromedriver are not installed: the report cannot be looked at"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def path(findings: list[Finding], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(findings, tmp_path_factory.mktemp("page") / "report.html")
