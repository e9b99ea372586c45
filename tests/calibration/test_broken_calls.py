"""Calls at the model, probes, erasers and what-ifs: broken on purpose, their instruments see it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from layerscope.calibration import calibrate

Change = Callable[[Any], Any]


def scaled(share: float) -> Change:
    """The function with its result multiplied: tensors, numbers."""
    return lambda function: lambda *args, **more: share * function(*args, **more)


def column_moved(column: str, by: float) -> Change:
    """The analysis with a column of its finding's table moved."""

    def change(function: Any) -> Any:
        def changed(*args: Any, **more: Any) -> Any:
            finding = function(*args, **more)
            finding.table[column] = finding.table[column] + by
            return finding

        return changed

    return change


def nothing_done(function: Any) -> Any:
    """An edit that returns what it was given."""
    return lambda *args, **more: importlib.import_module("layerscope.hooks.edits").scale(1.0)


# Each: what is broken, the instruments that must not read as expected.
BREAKS: list[tuple[str, str, Change, tuple[str, ...]]] = [
    ("layerscope.hooks.edits", "add", nothing_done, ("edit",)),
    ("layerscope.analyses.skipping.cosines", "cosine", scaled(0.999), ("layer_similarity",)),
    ("layerscope.probes.kinds.lda", "LDA.predict", lambda function: None, ("probe.lda",)),
]


@pytest.mark.parametrize(
    ("module", "name", "change", "instruments"), BREAKS, ids=[b[1] for b in BREAKS]
)
def test_what_is_broken_is_seen(
    module: str, name: str, change: Change, instruments: tuple[str, ...], monkeypatch: Any
) -> None:
    assert calibrate(instruments, progress=False).passed
    owner = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    monkeypatch.setattr(owner, last, change(getattr(owner, last)))
    found = calibrate(instruments, progress=False).table
    assert set(found[found["verdict"] != "as expected"]["instrument"]) == set(instruments)


MOVED = [
    ("layer_skip", "value"),
    ("ffn_skip", "value"),
    ("layer_drop", "value"),
    ("parallel_windows", "value"),
    ("depth_use", "value"),
    ("layer_similarity", "value"),
    ("linear_maps", "value"),
    ("direct_logits", "value"),
    ("integrated_gradients", "value"),
    ("patching", "value"),
    ("attribution_patching", "value"),
    ("causal_tracing", "share"),
    ("knock_out", "value"),
    ("erasure", "value"),
    ("lens", "value"),
    ("lens_tokens", "final_rank"),
    ("back_patching", "value"),
]


@pytest.mark.parametrize(("name", "column"), MOVED)
def test_values_that_are_all_a_thousandth_too_large_are_seen(
    name: str, column: str, monkeypatch: Any
) -> None:
    analyses = importlib.import_module("layerscope.analyses")
    change = column_moved(column, 0.001)
    monkeypatch.setattr(analyses, name, change(getattr(analyses, name)))
    found = calibrate(name, progress=False)
    assert f"off: {name}" in found.answer()


def test_a_search_that_tells_right_from_wrong_badly_is_seen(monkeypatch: Any) -> None:
    analyses = importlib.import_module("layerscope.analyses")

    def turned(*args: Any, **more: Any) -> Any:
        finding = search(*args, **more)
        finding.table["correct"] = ~finding.table["correct"].astype(bool)
        return finding

    search = analyses.layer_programs
    monkeypatch.setattr(analyses, "layer_programs", turned)
    assert "off: layer_programs" in calibrate("layer_programs", progress=False).answer()


@pytest.mark.parametrize("kind", ["linear", "ridge", "mass_mean", "lda", "prototypes", "mlp"])
def test_a_probe_that_peeks_is_seen(kind: str, monkeypatch: Any) -> None:
    """A tenth of all rows is right because the probe was told: also where nothing is planted."""
    home = importlib.import_module("layerscope.probes")

    def peeking(*args: Any, **more: Any) -> Any:
        finding = probe(*args, **more)
        values = finding.table["value"]
        finding.table["value"] = values + 0.1 * (1 - values)
        return finding

    probe = home.probe
    monkeypatch.setattr(home, "probe", peeking)
    found = calibrate(f"probe.{kind}", progress=False).table
    assert "off" in set(found["verdict"])


def test_an_eraser_that_leaves_a_hundredth_is_seen(monkeypatch: Any) -> None:
    eraser = importlib.import_module("layerscope.probes.erasers.eraser").Eraser
    whole = eraser.__call__

    def most(self: Any, x: torch.Tensor) -> torch.Tensor:
        return 0.99 * whole(self, x) + 0.01 * x

    monkeypatch.setattr(eraser, "__call__", most)
    found = calibrate(["eraser.leace", "eraser.mean_difference"], progress=False).table
    off = found[found["verdict"] == "off"]
    assert set(off["instrument"]) == {"eraser.leace", "eraser.mean_difference"}
    assert set(off["quantity"]) == {"class means apart afterwards"}
