"""Which solver is chosen."""

from __future__ import annotations

import pytest

from layerscope.probes.solving.engine import engine, place


def test_auto_takes_scikit_learn_for_small_work_on_a_processor() -> None:
    assert engine("auto", 1e3, device="cpu").name == "sklearn"
    assert engine("auto", 1e9, device="cpu").name == "torch"
    assert engine("auto", 1e3, device="cuda").name == "torch"
    with pytest.raises(ValueError, match=r"solver must be 'auto', 'sklearn' or 'torch', got 'gpu'"):
        engine("gpu", 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="runs on the CPU, not on 'cuda'"):
        engine("sklearn", 1.0, device="cuda")


def test_the_device_asked_for_comes_first(monkeypatch) -> None:
    for there, found in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert (place(None), place("cpu"), place("cuda:1")) == (found, "cpu", "cuda:1")
