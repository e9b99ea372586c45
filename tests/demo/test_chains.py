"""Back-patching of the bundled model's missed chains."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerscope.analyses.back_patches.back_patching_finding import NOISE, OTHER, OWN, WRONG
from layerscope.demo import load_model, load_tokenizer, world
from layerscope.demo.chains import LAST, NAME, MissedChains, chains, unseen
from layerscope.demo.recall import KINDS, answered, kind_of
from layerscope.finding import Finding


@pytest.fixture(scope="module")
def found() -> MissedChains:
    """The chains that the model misses, and a few that it does not."""
    model = load_model()
    right = answered(model, load_tokenizer(), unseen())
    missed = [q for q, is_right in zip(unseen(), right, strict=True) if not is_right]
    assert len(missed) == 65
    return chains(model, questions=[*missed, *unseen()[:10]], progress=False)


def test_what_is_asked_is_what_recall_calls_unseen() -> None:
    assert set(unseen()) == {q for q in world.all_questions() if kind_of(q) == KINDS[2]}


def test_the_last_token_is_repaired_beyond_the_control_and_the_name_is_not(
    found: MissedChains,
) -> None:
    """What docs/back_patching.md and the report say of the bundled model."""
    rates = found.lines(kind="any pair", group=WRONG).set_index(["position", "states"])
    last, name = rates.loc[LAST], rates.loc[NAME]
    assert last.loc[OWN, "excess_low"] > 0
    assert name.loc[OWN, "excess_low"] <= 0
    assert {OTHER, NOISE} <= set(last.index)
    assert last.loc[OWN, "value"] > 2 * max(last.loc[OTHER, "value"], last.loc[NOISE, "value"])


def test_the_finding_says_what_a_chain_is_and_survives_saving(
    found: MissedChains, tmp_path: Path
) -> None:
    assert "chain itself was never shown" in found.notes[0]
    again = Finding.load(found.save(tmp_path / "chains"))
    assert isinstance(again, MissedChains)
    assert again.answer() == found.answer()
