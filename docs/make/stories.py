"""The notebooks as pages of the site: their text, code and outputs as Markdown, their pictures as files.

What a notebook shows was kept when it was run (docs/make/notebooks.py); nothing is run here. The page
is Markdown like every other, so it has the look of every other.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
ORDER = (
    "first_look",
    "word_classes",
    "which_layers_matter",
    "back_patching",
    "does_a_network_compress",
    "what_the_features_mean",
    "over_training",
)
"""As they are told; others follow by name."""


@dataclass(frozen=True)
class Story:
    """One notebook as a page."""

    name: str
    title: str
    lead: str
    """Its first paragraph."""
    markdown: str
    pictures: dict[str, bytes] = field(default_factory=dict)
    """Address in the site -> PNG."""


def stories() -> list[Story]:
    """Every notebook, in the order in which they are told."""
    place = {name: number for number, name in enumerate(ORDER)}
    paths = sorted(NOTEBOOKS.glob("*.ipynb"), key=lambda p: (place.get(p.stem, len(ORDER)), p.stem))
    return [_story(path) for path in paths]


def contents() -> str:
    """The list of stories for their first page."""
    told = stories()
    return "\n\n".join(f"## [{s.title}](stories/{s.name}.md)\n\n{s.lead}" for s in told)


def _story(path: Path) -> Story:
    cells = nbformat.read(path, as_version=4).cells
    first = next(cell.source for cell in cells if cell.cell_type == "markdown")
    title = re.sub(r"^#+\s*", "", first.strip().splitlines()[0])
    parts, pictures, heading = [], {}, title
    for cell in cells:
        if cell.cell_type == "markdown":
            parts.append(_relinked(cell.source))
            heading = (re.findall(r"^#+\s*(.+)$", cell.source, re.MULTILINE) or [heading])[-1]
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            shown, picture = _shown(output, path.stem, len(pictures) + 1, heading)
            parts.append(shown)
            pictures |= picture
    lead = next((p for p in first.split("\n\n")[1:] if p.strip()), "").strip()
    return Story(path.stem, title, _relinked(lead, ""), "\n\n".join(parts), pictures)


def _shown(
    output: nbformat.NotebookNode, name: str, number: int, heading: str
) -> tuple[str, dict[str, bytes]]:
    """An output as Markdown, and its picture where it is one."""
    data = output.get("data", {})
    if "image/png" in data:
        address = f"images/stories/{name}-{number}.png"
        alt = re.sub(r"[*`\[\]]", "", heading)
        return f"![Figure {number}: {alt}](../{address})", {
            address: base64.b64decode(data["image/png"])
        }
    if "text/html" in data:
        return f'<div class="output">{_plain(data["text/html"])}</div>', {}
    text = output.get("text") or data.get("text/plain", "")
    return f'<div class="output" markdown>\n\n```text\n{text.rstrip()}\n```\n\n</div>', {}


def _plain(html: str) -> str:
    """A table without pandas' own style; blank lines would end the block in Markdown."""
    html = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    html = re.sub(r'<table border="1" class="dataframe">', "<table>", html)
    html = html.replace(' style="text-align: right;"', "")
    # Names of sites break after their dots, so that a table of many keeps to the column.
    html = re.sub(r"<th>[^<]+</th>", lambda cell: cell[0].replace(".", ".<wbr>"), html)
    return re.sub(r"\n\s*", "\n", html).strip()


def _relinked(text: str, up: str = "../") -> str:
    """Links of a notebook start in its folder; those of the page in the site's."""
    text = re.sub(r"\]\(\.\./docs/", f"]({up}", text)
    return re.sub(r"\]\(([a-z_]+)\.ipynb", r"](\1.md" if up else r"](stories/\1.md", text)
