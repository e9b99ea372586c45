"""Pictures of the pages about sparse autoencoders: all of the middle layer of stories260K."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import layerscope as ls
from layerscope.analyses import sae

if TYPE_CHECKING:
    from torch import nn

    from layerscope import Finding, Store
    from layerscope.analyses.sae import SAE

LAYER, WIDTH = 2, 512
QUIET: dict[str, Any] = {"progress": False}


def sae_training(data: Path) -> Finding:
    """As `benchmarks/sae_stories.py` trains them: three at once, 30 passes over 400 stories."""
    store = _store(data, 0, 400)
    size = {"width": WIDTH, "k": (4, 8, 16), "tokens": 5_000_000, "batch": 1024}
    made = [one.history for one in sae.train_together(store, LAYER, **size, **QUIET)]
    return replace(made[0], table=pd.concat([one.table for one in made], ignore_index=True))


def sae_measures(data: Path) -> Finding:
    """Trained on stories, measured on web text."""
    coder = _trained(data, 400, 2_000_000)
    options = {"label": "upos", "tokens": 20_000}
    return sae.evaluate(coder, _web(data), model=_model(data), **options, **QUIET)


def sae_features(data: Path) -> Finding:
    """Trained on 300 stories, looked at on web text with gold word classes."""
    return sae.features(_small(data), _web(data), model=_model(data), label="upos", **QUIET)


def sae_latent(data: Path) -> str:
    """One of its latents on the stories that it was not trained on, as the page of a report."""
    held_out, options = _store(data, 300, 500), {"latents": [325], "layout": "none"}
    found = sae.features(_small(data), held_out, model=_model(data), **options, **QUIET)
    return f"<style>.latents > h3, .latents > p {{ display: none }}</style>{found.page()}"


@cache
def _model(data: Path) -> nn.Module:
    return ls.load_model(data / "stories260K/hf")


@cache
def _store(data: Path, first: int, last: int) -> Store:
    """Activations of some of the 500 stories, in a folder that goes with the process."""
    stories = json.loads((data / "text_tinystories/tinystories_500.json").read_text())
    return ls.extract(_model(data), stories[first:last], [LAYER], to=_scratch(), **QUIET)


@cache
def _web(data: Path) -> Store:
    corpus = ls.read(data / "ud_english_ewt/en_ewt-ud-dev.conllu")
    return ls.extract(_model(data), corpus, [LAYER], to=_scratch(), **QUIET)


@cache
def _trained(data: Path, stories: int, rows: int) -> SAE:
    return sae.train(_store(data, 0, stories), LAYER, width=WIDTH, k=16, tokens=rows, **QUIET)


def _small(data: Path) -> SAE:
    return _trained(data, 300, 1_500_000)


def _scratch() -> Path:
    return Path(tempfile.mkdtemp()) / "store"
