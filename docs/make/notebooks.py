"""Runs the notebooks and keeps what they show: ``python docs/make/notebooks.py [NAME ...]``.

A notebook is run in an empty folder and written back with its outputs, so small and so steady that a
second run on another day gives the same file: figures as pictures, no progress bars, no times. The
dark picture of each figure goes to `docs/images/stories/`, for the site.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import nbformat
from nbclient import NotebookClient

if TYPE_CHECKING:
    import plotly.graph_objects as go

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
DARK = ROOT / "docs" / "images" / "stories"
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDTH = 760
"""CSS pixels of a picture, as wide as the text of the site."""
VARIES = "varies"
"""Tag of a cell whose words or numbers are another machine's to decide: it shows a trained network."""


def main(names: list[str]) -> None:
    known = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"no notebook {', '.join(unknown)}; there are {', '.join(known)}")
    for name in names or known:
        with tempfile.TemporaryDirectory() as folder:
            notebook = tidied(executed(known[name], Path(folder)))
        pictured(notebook, name)
        nbformat.write(notebook, known[name])
        print(f"{name}: {known[name].stat().st_size / 1000:.0f} kB", flush=True)


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook after a run from its first cell to its last, in `folder`, with a cache of its own."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=240,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],
    )
    # One thread, because sums in another order are other numbers in the last digit.
    alone = {
        "LAYERSCOPE_CACHE": str(folder / ".cache"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with patch.dict(os.environ, alone):
        client.execute()
    return notebook


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same notebook, without what changes from run to run or from machine to machine.

    Raises:
        ValueError: a cell warned on stderr, or shows a path of this machine.
    """
    notebook.metadata = nbformat.from_dict(  # type: ignore[no-untyped-call]
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in code_cells(notebook):
        cell.outputs = _joined([output for output in cell.outputs if not _is_progress(output)])
        for output in cell.outputs:
            _shorten(output)
            _refuse_stray(output, cell.source)
    return notebook


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(cell: nbformat.NotebookNode) -> str:
    """What a cell prints and returns, as text."""
    parts = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    ]
    return "\n".join(parts)


def pictured(notebook: nbformat.NotebookNode, name: str) -> None:
    """Put a picture in the place of every plotly figure; the dark ones go to `DARK`."""
    for old in DARK.glob(f"{name}-*.png"):
        old.unlink()
    shown = [output for cell in code_cells(notebook) for output in cell.outputs]
    figures = [output for output in shown if PLOTLY in output.get("data", {})]
    for number, output in enumerate(figures, 1):
        light, height = _picture(output.data[PLOTLY], f"{name}-{number}")
        output.data = nbformat.from_dict({"image/png": light})  # type: ignore[no-untyped-call]
        output.metadata = nbformat.from_dict(  # type: ignore[no-untyped-call]
            {"image/png": {"width": WIDTH, "height": height}}
        )


def _picture(drawn: dict[str, Any], name: str) -> tuple[str, int]:
    """The light picture in base64, and its height; the dark one stays in `DARK`."""
    import picture

    figure = still(drawn)
    height = int(figure.layout.height or picture.HEIGHT)
    light, _ = picture.save(figure, name, width=WIDTH, height=height, folder=DARK)
    encoded = base64.b64encode(light.read_bytes()).decode()
    light.unlink()
    return encoded, height


def still(drawn: dict[str, Any]) -> go.Figure:
    """A figure without the sliders and menus that a picture cannot move."""
    import plotly.graph_objects as go

    figure = go.Figure(drawn["data"], drawn["layout"])
    figure.layout.sliders, figure.layout.updatemenus = (), ()
    return figure


def _is_progress(output: nbformat.NotebookNode) -> bool:
    return WIDGET in output.get("data", {}) or (
        output.output_type == "stream" and output.name == "stderr" and "\r" in output.text
    )


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Neighbouring pieces of one stream as one: where the kernel cut it is chance."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == last.output_type == "stream":
            last.text += output.text
        else:
            joined.append(output)
    return joined


def _shorten(output: nbformat.NotebookNode) -> None:
    """Name the bundled files as they are called in every installation."""
    here = f"{ROOT / 'src'}/"
    if "text" in output:
        output.text = output.text.replace(here, "")
    for kind, held in output.get("data", {}).items():
        if kind.startswith("text/"):
            output.data[kind] = held.replace(here, "")


def _refuse_stray(output: nbformat.NotebookNode, source: str) -> None:
    first = source.splitlines()[0]
    if output.get("name") == "stderr":
        raise ValueError(f"the cell {first!r} warns: {output.text}")
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    if found := re.search(r"(?:/tmp|/home|/root|/work|/Users)/\S*", text):
        raise ValueError(f"the cell {first!r} shows a path of this machine: {found[0]}")


if __name__ == "__main__":
    main(sys.argv[1:])
