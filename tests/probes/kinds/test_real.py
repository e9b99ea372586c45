"""Real models: word classes by every kind, before training and after (gpt2_books_steps)."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerscope.corpus import read
from layerscope.hooks.extract import extract
from layerscope.hooks.load import load_model
from layerscope.probes.kinds import LowRank
from layerscope.probes.probe import probe

SENTENCES = 250


@pytest.fixture(scope="module")
def stores(shared_data: Path, tmp_path_factory):
    """Step -> activations at the last pieces of words."""
    corpus = read(shared_data / "ud_english_ewt" / "en_ewt-ud-dev.conllu").take(SENTENCES)
    folder = tmp_path_factory.mktemp("steps")
    return {
        step: extract(
            load_model(shared_data / "gpt2_books_steps" / f"step{step}"),
            corpus,
            ["embed", "all"],
            to=folder / str(step),
            progress=False,
        )
        for step in (0, 2048)
    }


@pytest.mark.parametrize("kind", ["linear", "ridge", "lda"])
def test_training_makes_word_classes_readable_with_depth(stores, kind) -> None:
    """Step 0 gains nothing with depth, step 2048 does (NOTE.md), whichever probe reads it."""
    untrained, trained = (
        probe(
            stores[step],
            ["embed", 0, 3],
            label="upos",
            kind=kind,
            control=False,
            solver="torch",
            progress=False,
        ).table["value"]
        for step in (0, 2048)
    )
    assert untrained.iloc[1:].max() < untrained.iloc[0] + 0.01
    assert trained.iloc[1:].max() > trained.iloc[0] + 0.02
    assert trained.iloc[-1] > untrained.iloc[-1] + 0.1
    assert (trained > 0.3).all()


def test_kinds_are_in_the_order_of_what_they_can_do(stores) -> None:
    """At the last layer: all directions, two of them, and the means alone."""
    values = {
        kind if isinstance(kind, str) else kind.name: probe(
            stores[2048],
            -1,
            label="upos",
            kind=kind,
            control=False,
            solver="torch",
            progress=False,
        ).best["value"]
        for kind in ("linear", "mass_mean", LowRank(rank=2, l2=10.0))
    }
    assert values["linear"] > values["mass_mean"] + 0.02
    assert values["linear"] > values["low_rank"] + 0.05
    assert min(values.values()) > 0.3
