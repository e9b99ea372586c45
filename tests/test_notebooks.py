"""Every notebook runs from its first cell to its last, in an empty folder, and shows what it holds."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURE = "image/png"
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?")


def _maker() -> ModuleType:
    """`docs/make/notebooks.py`, which is a script and no part of the package."""
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs/make/notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = _maker()


def differences(stored: str, new: str) -> list[str]:
    """What two texts say differently: words, or numbers further apart than another machine's rounding."""
    # Tables of pandas are as wide as their numbers.
    one, other = (" ".join(text.split()) for text in (stored, new))
    if NUMBER.sub("#", one) != NUMBER.sub("#", other):
        return [f"{one!r} became {other!r}"]
    pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    return [f"{a} became {b}" for a, b in pairs if not _near(a, b)]


def _near(one: str, other: str) -> bool:
    """Counts are equal; measures are within 5 %, or two units of the last digit that is shown."""
    whole = not set(one + other) & set(".e%")
    a, b = (float(number.rstrip("%").replace(",", "")) for number in (one, other))
    if whole:
        return a == b
    shown = len(one.rstrip("%").partition(".")[2])
    return math.isclose(a, b, rel_tol=0.05, abs_tol=1e-6 if "e" in one else 2 * 10.0**-shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_says_again_what_it_holds(path: Path, tmp_path: Path) -> None:
    stored = nbformat.read(path, as_version=4)
    new = maker.tidied(maker.executed(path, tmp_path))
    pairs = list(zip(maker.code_cells(stored), maker.code_cells(new), strict=True))
    assert [cell.execution_count for _, cell in pairs] == list(range(1, len(pairs) + 1))
    # A training that rounds otherwise from its first step on is another training at its last.
    steady = [(a, b) for a, b in pairs if maker.VARIES not in a.metadata.get("tags", [])]
    told = {a.id: differences(maker.said(a), maker.said(b)) for a, b in steady}
    assert not {name: found for name, found in told.items() if found}, (
        "run: python docs/make/notebooks.py " + path.stem
    )
    assert _figures(new, maker.PLOTLY) == _figures(stored, PICTURE)


def _figures(notebook: nbformat.NotebookNode, kind: str) -> int:
    outputs = [output for cell in maker.code_cells(notebook) for output in cell.outputs]
    return sum(kind in output.get("data", {}) for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_holds_its_outputs_and_is_small(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = maker.code_cells(notebook)
    assert path.stat().st_size < 300_000
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert 2 <= _figures(notebook, PICTURE) <= 3
    kinds = {kind for cell in cells for out in cell.outputs for kind in out.get("data", {})}
    assert kinds <= {"text/plain", "text/html", PICTURE}
    assert "your own" in "".join(cell.source for cell in notebook.cells)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_story_begins_with_what_the_reader_will_know(path: Path) -> None:
    first = nbformat.read(path, as_version=4).cells[0].source
    title, _, lead = first.partition("\n\n")
    assert title.startswith("# ")
    assert lead.startswith("At the end of this page you ")
    assert "control" in "".join(c.source for c in nbformat.read(path, as_version=4).cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_has_a_dark_picture_for_the_site(path: Path) -> None:
    count = _figures(nbformat.read(path, as_version=4), PICTURE)
    dark = sorted(p.name for p in maker.DARK.glob(f"{path.stem}-*.png"))
    assert dark == [f"{path.stem}-{number}-dark.png" for number in range(1, count + 1)]


def test_texts_differ_in_words_and_in_numbers() -> None:
    assert differences("0.94 of 3 layers", "0.95  of 3\nlayers") == []
    assert differences("24% of 400 rows, error 1.3e-08", "25% of 400 rows, error 0.0e+00") == []
    assert differences("0.94 of 400 rows", "0.94 of 401 rows") == ["400 became 401"]
    assert differences("0.94 of 3 layers", "0.87 of 3 layers") == ["0.94 became 0.87"]
    assert len(differences("best at embed", "best at norm")) == 1


def test_what_changes_from_run_to_run_is_left_out() -> None:
    def cell(*outputs: nbformat.NotebookNode) -> nbformat.NotebookNode:
        return nbformat.v4.new_code_cell("show()", outputs=list(outputs))

    def stream(text: str, name: str = "stdout") -> nbformat.NotebookNode:
        return nbformat.v4.new_output("stream", name=name, text=text)

    bar = nbformat.v4.new_output(
        "display_data", data={maker.WIDGET: {}, "text/plain": "extract: 0%"}
    )
    shown = maker.tidied(
        nbformat.v4.new_notebook(
            metadata={"language_info": {"name": "python", "version": "3.11.7"}},
            cells=[cell(bar, stream("one\n"), stream("two\n"), stream("\rx: 3%", "stderr"))],
        )
    )
    assert maker.said(shown.cells[0]) == "one\ntwo\n"
    assert shown.metadata.language_info == {"name": "python"}
    for stray in (stream("look out", "stderr"), stream("written to /tmp/x/report.html")):
        with pytest.raises(ValueError, match=r"'show\(\)' (warns|shows a path of this machine)"):
            maker.tidied(nbformat.v4.new_notebook(cells=[cell(stray)]))
