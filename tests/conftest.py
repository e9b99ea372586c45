"""Fixtures that many test files share."""

from __future__ import annotations

import os
from pathlib import Path

# The suite's models are tiny: one thread is faster, and every run then adds in the same order.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real models and data beside the checkout; tests that need it skip without."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is absent: real models and data are not part of the repository")
    return folder


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own activation cache."""
    folder = tmp_path / "layerscope-cache"
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(folder))
    return folder
