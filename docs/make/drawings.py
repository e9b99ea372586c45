"""Puts the house's colours into every drawing, so that it looks right where no page dresses it.

    python docs/make/drawings.py

A drawing is an SVG file in docs/drawings, drawn by hand with the classes of docs/style/drawing.css.
Its `<style>` is written here, from that file and the colours of the site.
"""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]


def style() -> str:
    """The rules and both sets of colours; outside the site the viewer's preference chooses."""
    sheets = [_bare(DOCS / "style" / name) for name in ("colours.css", "drawing.css")]
    light, dark = re.findall(r"\{(.*?)\}", sheets[0], flags=re.DOTALL)
    colours = f":root {{{light}}}\n@media (prefers-color-scheme: dark) {{ :root {{{dark}}} }}\n"
    return f"<style>\n{colours}{sheets[1]}</style>"


def _bare(path: Path) -> str:
    return re.sub(r"/\*.*?\*/\n?", "", path.read_text(), flags=re.DOTALL)


def main() -> None:
    for path in sorted((DOCS / "drawings").glob("*.svg")):
        drawing = re.sub(r"<style>.*?</style>\n?", "", path.read_text(), flags=re.DOTALL)
        opening, rest = drawing.split(">\n", 1)
        path.write_text(f"{opening}>\n{style()}\n{rest}")


if __name__ == "__main__":
    main()
