"""The frame: verdicts, errors that stop nobody else, and a user's machine that is left as it was."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from layerscope.calibration import Instrument, Reading, calibrate
from layerscope.calibration.calibrate import as_finding, choose, measured
from layerscope.calibration.instrument import FAMILIES
from layerscope.calibration.instruments.catalogue import CATALOGUE


def made(*readings: Reading, name: str = "made", family: str = "What if") -> Instrument:
    return Instrument(name, family, "Something.", "by construction", lambda seed: readings)


def rows(*instruments: Instrument, seed: int = 0) -> list[dict[str, object]]:
    return [row for _, own in measured(instruments, seed) for row in own]


@pytest.mark.parametrize(
    ("reading", "off", "verdict"),
    [
        (Reading("exact", 2.0, 2.0), 0.0, "as expected"),
        (Reading("exact", 2.0, 2.0 + 1e-9), math.inf, "off"),
        (Reading("inside", 2.0, 2.25, 0.5), 0.5, "as expected"),
        (Reading("at the edge", 2.0, 1.5, 0.5), 1.0, "as expected"),
        (Reading("outside", 2.0, 1.0, 0.5), 2.0, "off"),
        (Reading("nan", 2.0, math.nan, 0.5), math.inf, "off"),
        (Reading("infinite", 2.0, math.inf, 0.5), math.inf, "off"),
        (Reading("words", "refused", "refused"), 0.0, "as expected"),
        (Reading("other words", "refused", "done"), math.inf, "off"),
        (Reading("a number for words", "refused", 0.0), math.inf, "off"),
        (Reading("no number expected", math.nan, math.nan, 1.0), math.inf, "off"),
    ],
)
def test_the_verdict(reading: Reading, off: float, verdict: str) -> None:
    (row,) = rows(made(reading))
    assert row["off"] == pytest.approx(off)
    assert row["verdict"] == verdict


def test_an_instrument_that_raises_is_a_failed_row_and_the_others_go_on() -> None:
    def read(seed: int) -> Iterator[Reading]:
        yield Reading("before", 1.0, 1.0)
        raise ValueError("out of <paper>")

    broken = Instrument("broken", "What if", "Something.", "by construction", read)
    found = rows(broken, made(name="silent"), made(Reading("fine", 1.0, 1.0)))
    assert [row["verdict"] for row in found] == ["as expected", "failed", "failed", "as expected"]
    assert found[1]["measured_text"] == "ValueError: out of <paper>"
    assert "gave no reading" in str(found[2]["measured_text"])
    finding = as_finding(found, None, 0, 1.0)
    assert not finding.passed
    assert "1 of 3 instruments read what was planted" in finding.answer()
    assert "failed with an error: broken, silent" in finding.answer()


def test_ctrl_c_is_no_failed_instrument() -> None:
    def read(seed: int) -> Iterator[Reading]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        rows(Instrument("stopped", "What if", "Something.", "by construction", read))


def test_the_seed_reaches_the_instrument() -> None:
    seeded = Instrument(
        "seeded", "What if", ".", ".", lambda seed: [Reading("seed", 7.0, float(seed))]
    )
    assert [row["verdict"] for row in rows(seeded, seed=7)] == ["as expected"]
    assert [row["verdict"] for row in rows(seeded, seed=8)] == ["off"]


def test_the_users_machine_is_left_as_it_was(cache_folder: Path) -> None:
    before = torch.random.get_rng_state(), torch.get_num_threads(), os.environ["LAYERSCOPE_CACHE"]

    def read(seed: int) -> Iterator[Reading]:
        warnings.warn("nobody needs to see this", UserWarning, stacklevel=1)
        yield Reading("threads", 1.0, float(torch.get_num_threads()))
        elsewhere = os.environ["LAYERSCOPE_CACHE"] != str(cache_folder)
        yield Reading("another cache", 1.0, float(elsewhere))

    torch.set_num_threads(2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = rows(Instrument("look", "What if", ".", ".", read), *choose("extract"))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before[1])
    assert {row["verdict"] for row in found} == {"as expected"}
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert os.environ["LAYERSCOPE_CACHE"] == before[2]
    assert not cache_folder.exists()


def test_instruments_are_chosen_by_name_pattern_and_family() -> None:
    assert choose(None) == CATALOGUE
    assert [one.name for one in choose("layer_skip")] == ["layer_skip"]
    assert [one.name for one in choose(["edit", "capture"])] == ["capture", "edit"]
    assert {one.name.split(".")[0] for one in choose("probe.*")} == {"probe"}
    assert {one.family for one in choose("what IF")} == {"What if"}
    with pytest.raises(ValueError, match=r"'layer_skp'; did you mean 'layer_skip'"):
        choose(["capture", "layer_skp"])
    with pytest.raises(ValueError, match=r"families: 'The model and the data'"):
        choose("zzzz")
    with pytest.raises(ValueError, match="no instruments were asked for"):
        choose([])


def test_the_catalogue_is_in_order_and_says_what_is_planted() -> None:
    names = [one.name for one in CATALOGUE]
    assert len(set(names)) == len(names)
    places = [FAMILIES.index(one.family) for one in CATALOGUE]
    assert places == sorted(places)
    for one in CATALOGUE:
        assert one.planted.endswith("."), one.name
        assert one.source, one.name


def test_the_call_gives_a_finding() -> None:
    finding = calibrate(["edit", "depth_use"], seed=3, progress=False)
    assert finding.passed
    assert list(dict.fromkeys(finding.table["instrument"])) == ["edit", "depth_use"]
    assert finding.provenance.seed == 3
    assert finding.provenance.parameters == {"instruments": ["edit", "depth_use"]}
    assert (finding.table["seconds"] > 0).all()
