"""The public list, and how light the door is."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import traceback

import pytest

import layerscope

PUBLIC = {
    "Anatomy",
    "Corpus",
    "Finding",
    "Samples",
    "Store",
    "anatomy",
    "calibrate",
    "capture",
    "edit",
    "extract",
    "load_model",
    "probe",
    "read",
    "record",
    "report",
}
ROOMS = {"analyses", "edits"}
HEAVY = {"torch", "transformers", "pandas", "plotly", "sklearn", "numpy", "pyarrow", "umap"}


def test_the_public_list_is_what_we_say() -> None:
    assert set(layerscope.__all__) == PUBLIC | ROOMS
    assert set(layerscope._ROOMS) == ROOMS
    assert set(layerscope._HOME) == PUBLIC


def test_every_public_name_arrives() -> None:
    for name in PUBLIC:
        value = getattr(layerscope, name)
        # `report` is the package too, once it was imported; calling the package calls the function.
        assert value.__name__.removeprefix("layerscope.") == name
        assert callable(value)
        assert value.__doc__, f"{name} has no docstring"


def test_rooms_are_modules_and_hold_what_they_say() -> None:
    assert layerscope.edits.zero().name == "zero"
    for name in layerscope.analyses.__all__:
        analysis = getattr(layerscope.analyses, name)
        assert analysis.__name__ == name
        assert analysis.__doc__, f"{name} has no docstring"


def test_packages_of_analyses_are_at_hand() -> None:
    assert layerscope.analyses.sae.train.__name__ == "train"
    assert layerscope.analyses.training.Recorder.__name__ == "Recorder"
    assert {"sae", "training", "lens"} <= set(dir(layerscope.analyses))


def test_an_imported_analysis_does_not_hide_its_function() -> None:
    for name in layerscope.analyses.__all__:
        importlib.import_module(f"layerscope.analyses.{name}")
        assert callable(getattr(layerscope.analyses, name))


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_layerscope_loads_nothing_heavy() -> None:
    assert not loaded_after("import layerscope") & HEAVY


def test_help_loads_nothing_heavy() -> None:
    code = (
        "from typer.testing import CliRunner\n"
        "from layerscope.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0"
    )
    assert not loaded_after(code) & HEAVY


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(layerscope, "no_such_name")


@pytest.mark.parametrize(
    ("room", "name", "meant"),
    [
        ("layerscope", "prob", "; did you mean 'probe'?"),
        ("layerscope", "sae", "; did you mean 'analyses.sae'?"),
        ("layerscope", "logit_lens", "; did you mean 'analyses.lens'?"),
        ("layerscope.analyses", "activation_patching", "; did you mean 'patching' or 'attr"),
        ("layerscope", "_ipython_display_", "'_ipython_display_'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(room: str, name: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=re.escape(meant)) as refused:
        getattr(importlib.import_module(room), name)
    assert "Did you mean" not in "".join(traceback.format_exception_only(refused.value))
