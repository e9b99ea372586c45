"""Draws the pictures of the docs pages again, from real runs.

    python docs/make/figures.py                      all that the data at hand allow
    python docs/make/figures.py probe layer_skip     these
    python docs/make/figures.py --list               what there is
    python docs/make/figures.py --data FOLDER        where models and texts lie that are not bundled
    python docs/make/figures.py --findings FOLDER    keep what was computed; what is there is only drawn

Each public function of a module in `figures/` is one picture of its name. It takes the folder of the
data and returns the figure, or the finding that draws it, whose words are then printed too, or a piece
of HTML, which is photographed.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from layerscope.finding import Finding

if TYPE_CHECKING:
    import plotly.graph_objects as go

    Drawing = Callable[[Path], go.Figure | Finding | str]

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[2] / "shared" / "data"


def drawings() -> dict[str, Path]:
    """Name of the picture -> the module with the function that computes it, by module and line."""
    found: dict[str, Path] = {}
    for path in sorted((HERE / "figures").glob("*.py")):
        for line in ast.parse(path.read_text()).body:
            if not isinstance(line, ast.FunctionDef) or line.name.startswith("_"):
                continue
            if line.name in found:
                raise ValueError(f"two functions in docs/make/figures draw {line.name!r}")
            found[line.name] = path
    return found


def function(name: str, path: Path) -> Drawing:
    """The function that computes the picture; only its own module is imported."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: Drawing = getattr(module, name)
    return made


def main() -> None:
    """Draw what was asked for, and say how long it took and how large the pictures are."""
    arguments = _arguments()
    known = drawings()
    if arguments.list:
        print("\n".join(known))
        return
    if unknown := [name for name in arguments.names if name not in known]:
        sys.exit(f"no such picture: {', '.join(unknown)}; there are {', '.join(known)}")
    from picture import save, save_page

    for name in arguments.names or known:
        began = time.perf_counter()
        try:
            figure = _figure(function(name, known[name]), name, arguments)
        except FileNotFoundError as error:
            print(f"{name}: left out, {error}", flush=True)
            continue
        paths = save_page(figure, name) if isinstance(figure, str) else save(figure, name)
        sizes = ", ".join(f"{path.stat().st_size / 1000:.0f} kB" for path in paths)
        print(f"{name}: {time.perf_counter() - began:.0f} s, {sizes}", flush=True)


def _figure(make: Drawing, name: str, arguments: argparse.Namespace) -> go.Figure | str:
    kept = arguments.findings / name if arguments.findings else None
    made = Finding.load(kept) if kept and kept.is_dir() else make(arguments.data)
    if not isinstance(made, Finding):
        return made
    if kept and not kept.is_dir():
        made.save(kept)
    print(f"{name}: {made.answer()}", *made.notes, sep="\n    ", flush=True)
    return made.figure()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw the pictures of the docs pages again.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="pictures; all unless given")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of models and texts")
    parser.add_argument("--findings", type=Path, help="folder that keeps what was computed")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    return parser.parse_args()


if __name__ == "__main__":
    main()
