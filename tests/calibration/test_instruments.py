"""Every public analysis has an instrument, and an instrument that goes wrong is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from layerscope import analyses
from layerscope.analyses.information.catalogue import ESTIMATORS
from layerscope.analyses.information.critics import OBJECTIVES
from layerscope.analyses.sae.architectures.catalogue import ARCHITECTURES
from layerscope.calibration import calibrate
from layerscope.calibration.instruments.catalogue import CATALOGUE
from layerscope.calibration.instruments.information import CRITICS, estimators
from layerscope.probes.erasers.fitting import METHODS
from layerscope.probes.kinds import NAMES

NOT_MEASURED = {"survey"}
"""Runs other analyses and measures nothing of its own."""
SAE_CALLS = ("train", "evaluate", "features", "formats")


def without_instrument() -> set[str]:
    """What the toolkit offers and no instrument is named after."""
    names = {instrument.name for instrument in CATALOGUE}
    offered = {
        *analyses.__all__,
        *(f"probe.{kind}" for kind in NAMES),
        *(f"eraser.{method}" for method in METHODS),
        *(f"sae.{name}" for name in (*ARCHITECTURES, *SAE_CALLS)),
    }
    measured = names | {name.partition(".")[0] for name in names}
    return offered - measured - NOT_MEASURED


def test_everything_has_an_instrument() -> None:
    assert without_instrument() == set()


def test_a_new_analysis_without_an_instrument_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyses, "__all__", [*analyses.__all__, "phrenology"])
    monkeypatch.setitem(ARCHITECTURES, "denseonly", ARCHITECTURES["topk"])
    assert without_instrument() == {"phrenology", "sae.denseonly"}


def test_every_estimator_of_information_is_read() -> None:
    kinds = {one.kind for one in ESTIMATORS.values()}
    read = {name for kind in kinds for name in estimators(kind)}
    assert CRITICS == OBJECTIVES
    assert read | set(CRITICS) == set(ESTIMATORS)


def test_names_and_sentences_are_fit_to_be_shown() -> None:
    names = [instrument.name for instrument in CATALOGUE]
    assert len(set(names)) == len(names)
    for instrument in CATALOGUE:
        assert instrument.planted.endswith("."), instrument.name
        assert instrument.source.strip(), instrument.name


def biased(patch: pytest.MonkeyPatch) -> None:
    """A number that is biased by a thousandth."""
    from layerscope.analyses.shapes import geometry_table

    unit, right = geometry_table.SPECTRAL["effective_rank"]
    wrong = (unit, lambda values: 1.001 * right(values))
    patch.setitem(geometry_table.SPECTRAL, "effective_rank", wrong)


def off_by_one_word(patch: pytest.MonkeyPatch) -> None:
    """The class of the word itself in the place of that of the next."""
    from layerscope.analyses.clustering import neighbour_labels

    patch.setattr(neighbour_labels, "next_of", lambda rows, label: rows[label])


def unbiased_for_biased(patch: pytest.MonkeyPatch) -> None:
    from layerscope.analyses.measures import cka

    patch.setattr(cka, "hsic_biased", cka.hsic_unbiased)


def wrong_sign(patch: pytest.MonkeyPatch) -> None:
    """The correction added on the wrong side."""
    from layerscope.analyses.information import discrete

    right = discrete.entropy

    def entropy(counts: Any, correction: Any = "plug-in") -> Any:
        plain = right(counts)
        return plain if correction == "plug-in" else 2 * plain - right(counts, correction)

    patch.setattr(discrete, "entropy", entropy)


def as_given(patch: pytest.MonkeyPatch) -> None:
    """Suggestions of the class that was given."""
    from layerscope.analyses.mistakes import label_errors_table

    patch.setattr(label_errors_table, "suggested", lambda p, given: given)


BROKEN: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], Any], str]] = {
    "biased": ("geometry", biased, "effective rank, variances 1/i"),
    "off by one word": ("word_classes", off_by_one_word, "GDV, every row at its class"),
    "another estimator": ("similarity", unbiased_for_biased, "CKA of a copy with noise"),
    "wrong sign": ("mutual_information.discrete", wrong_sign, "Miller-Madow, tied"),
    "wrong class": ("label_errors", as_given, "other than the right class suggested"),
}


@pytest.mark.parametrize("broken", list(BROKEN))
def test_a_broken_instrument_is_caught(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, breaks, quantity = BROKEN[broken]
    assert calibrate(name, progress=False).passed
    breaks(monkeypatch)
    found = calibrate(name, progress=False)
    assert not found.passed
    line = found.table.set_index("quantity").loc[quantity]
    assert line["verdict"] == "off"
    assert line["off"] > 1
