"""The site says what is there: every page is reachable, every call has a page, every number is measured."""

from __future__ import annotations

import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import layerscope
from layerscope import analyses
from layerscope.theme import COLORS, SURFACES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
PAGES = {str(path.relative_to(DOCS)): path for path in sorted(DOCS.rglob("*.md"))}
GUIDES = {"sae_rows.md", "sae_formats.md", "sae_architectures.md", "training_runs.md"}
"""Pages among the questions that are no analyses and have headings of their own."""
HEADINGS = ["How to read it", "How it misleads", "What is computed", "Cost", "API"]


def leaves(part: Any) -> Iterator[str]:
    """Every file that a part of the navigation names."""
    if isinstance(part, str):
        yield part
    else:
        for inner in part.values() if isinstance(part, dict) else part:
            yield from leaves(inner)


def under(*names: str) -> list[str]:
    """The pages of the sections of these names, one in the other."""
    part = SITE["nav"]
    for name in names:
        part = next(section[name] for section in part if name in section)
    return list(leaves(part))


QUESTIONS = [page for page in under("Questions") if page not in GUIDES]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules of docs/make by name."""
    pytest.importorskip("mkdocs", reason="needs the docs group: make docs installs it")
    monkeypatch.syspath_prepend(str(DOCS / "make"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def without_code(page: Path) -> str:
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def headings(page: Path) -> list[str]:
    return re.findall(r"^## (.+)$", without_code(page), flags=re.MULTILINE)


def pictures(page: Path) -> list[tuple[str, str]]:
    """(alternative text, file) of every image."""
    return re.findall(r"!\[(.*?)\]\((.*?)\)", without_code(page), flags=re.DOTALL)


def test_every_page_is_in_the_navigation_once() -> None:
    named = Counter(leaves(SITE["nav"]))
    assert set(named) == PAGES.keys()
    assert set(named.values()) == {1}


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_page_of_an_analysis_has_its_parts_in_order(name: str) -> None:
    lines = [line for line in PAGES[name].read_text().splitlines() if line]
    assert lines[0].startswith("# ")
    assert re.fullmatch(r"\*[^*].*\?\*", lines[1]), f"{name} begins without its question"
    found = headings(PAGES[name])
    assert [heading for heading in found if heading in HEADINGS] == HEADINGS
    assert found[-1] == "API"
    assert pictures(PAGES[name])


def documented() -> Counter[str]:
    text = "\n".join(page.read_text() for page in PAGES.values())
    return Counter(re.findall(r"^::: ([\w.]+)", text, flags=re.MULTILINE))


def test_every_public_call_is_described_once() -> None:
    blocks = documented()
    assert {name for name, times in blocks.items() if times > 1} == set()
    ends = {name.rsplit(".", 1)[-1] for name in blocks}
    methods = {"edits", "analyses"}  # packages: their parts are described
    assert set(layerscope.__all__) - methods <= ends
    assert set(analyses.__all__) <= ends
    assert set(analyses.sae.__all__) & {"train", "evaluate", "features", "load", "save"} <= ends


def test_the_reference_leads_to_every_description() -> None:
    listed = set(re.findall(r"\]\[([\w.]+)\]", PAGES["reference.md"].read_text()))
    assert listed <= documented().keys()
    calls = {name for name in documented() if name.rsplit(".", 1)[-1] in analyses.__all__}
    assert calls <= listed


@pytest.mark.parametrize("name", PAGES)
def test_pictures_exist_and_say_what_they_show(name: str) -> None:
    for alternative, source in pictures(PAGES[name]):
        path = PAGES[name].parent / source
        assert path.is_file(), source
        assert len(alternative) > 20, f"{source}: an alternative text that replaces the picture"
        assert path.stat().st_size < 150_000, f"{source} is heavy"
        if path.suffix == ".png":
            assert path.with_name(f"{path.stem}-dark.png").is_file(), (
                f"{source} has no dark sibling"
            )


@pytest.mark.parametrize("name", PAGES)
def test_links_between_pages_lead_somewhere(name: str) -> None:
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)", without_code(PAGES[name]))
    inside = [link for link in links if "://" not in link]
    missing = [link for link in inside if not (PAGES[name].parent / link).exists()]
    assert missing == []


def numbers(body: Any) -> Iterator[float]:
    """Every number that the results hold."""
    if isinstance(body, dict | list):
        for inner in body.values() if isinstance(body, dict) else body:
            yield from numbers(inner)
    elif isinstance(body, int | float) and not isinstance(body, bool):
        yield float(body)


def shown(cell: str) -> float | None:
    """The figure of a cell: `plain loop 59.6 s` is 59.6."""
    found = re.search(r"(-?[\d,]*\.?\d+(?:e-?\d+)?)(?:\u00a0\S+)?$", cell.strip())
    return float(found[1].replace(",", "")) if found else None


def test_every_figure_of_the_performance_page_is_a_measured_one(make: Any) -> None:
    page = make("performance").page()
    seen = 0
    for section in page.split("### ")[1:]:
        name = re.search(r"benchmarks/(\w+)\.py", section)
        results = ROOT / "benchmarks" / "results" / f"{name[1] if name else ''}.json"
        if not results.is_file():
            assert "No figures are kept" in section
            continue
        measured = list(numbers(json.loads(results.read_text())))
        for line in re.findall(r"^\| (?!\|)(?!-)(.*) \|$", section, flags=re.MULTILINE):
            for figure in [shown(cell) for cell in line.split(" | ")[1:3]]:
                if figure is not None:
                    near = min(abs(figure - value) / (abs(value) or 1) for value in measured)
                    assert near < 0.006, f"{name and name[1]}: {line}"
                    seen += 1
    assert seen > 60


def test_ratios_are_of_the_figures_beside_them(make: Any) -> None:
    row = make("performance").Row
    assert row("a", 2.0, "s", "b", 6.0).ratio == 3.0
    assert row("a", 6.0, "rows/s", "b", 2.0, more=True).ratio == 3.0
    assert row("a", 6.0, "s").ratio is None


def test_a_benchmark_that_is_not_told_stops_the_build(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    performance = make("performance")
    told = {name: entry for name, entry in performance.ENTRIES.items() if name != "extract"}
    monkeypatch.setattr(performance, "ENTRIES", told)
    with pytest.raises(ValueError, match=r"without an entry: \['extract'\]"):
        performance.page()


def custom_properties(sheet: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (.*?);", sheet))


def test_the_sites_colours_are_those_of_the_figures_and_of_the_report() -> None:
    light, dark = re.findall(r"\{(.*?)\}", (DOCS / "style" / "colours.css").read_text(), re.DOTALL)
    report = custom_properties((ROOT / "src/layerscope/report/report.css").read_text())
    for dress, sheet in (("light", light), ("dark", dark)):
        colours = custom_properties(sheet)
        shared = SURFACES[dress].keys() & colours.keys()
        assert {"paper", "ink", "muted"} <= shared
        assert {name: colours[name] for name in shared} == {n: SURFACES[dress][n] for n in shared}
        place = {"light": 0, "dark": 1}[dress]
        for name, both in report.items():
            pair = re.findall(r"#[0-9a-f]{6}", both)
            if name in colours and len(pair) == 2:
                assert colours[name] == pair[place], name
    assert custom_properties(light)["value"] == COLORS["value"]
    assert custom_properties(light)["good"] == COLORS["good"]


@pytest.mark.parametrize("path", sorted((DOCS / "drawings").glob("*.svg")), ids=lambda p: p.name)
def test_drawings_have_the_colours_of_the_site(path: Path, make: Any) -> None:
    assert make("drawings").style() in path.read_text(), "run python docs/make/drawings.py"
    used = {c for names in re.findall(r'class="([^"]*)"', path.read_text()) for c in names.split()}
    known = set(re.findall(r"\.([a-z-]+)", (DOCS / "style" / "drawing.css").read_text()))
    assert used <= known


def html(make: Any, markdown: str) -> str:
    from markdown import Markdown

    return Markdown(extensions=[make("website").House()]).convert(markdown)


def test_a_picture_has_its_dark_sibling_and_its_caption(make: Any) -> None:
    page = html(make, "# T\n\n*Why?*\n\n![Accuracy by layer](images/probe.png)\n\n*The model.*\n")
    assert re.search(r'<img[^>]*class="only-light"[^>]*src="images/probe.png"', page) or re.search(
        r'<img[^>]*src="images/probe.png"[^>]*class="only-light"', page
    )
    assert "images/probe-dark.png" in page
    assert '<p class="caption"><em>The model.</em></p>' in page
    assert '<p class="question"><em>Why?</em></p>' in page


def test_a_drawing_becomes_part_of_the_page(make: Any) -> None:
    page = html(make, "![Sites of a block](drawings/sites.svg)")
    assert 'role="img" aria-label="Sites of a block"' in page
    assert "<style" not in page
    assert "<img" not in page


def test_caveats_stand_behind_their_rule(make: Any) -> None:
    page = html(make, "# T\n\n## How it misleads\n\nOften.\n\n### So\n\nYes.\n\n## Cost\n\nNone.\n")
    box = re.search(r'<div class="care">(.*?)</div>', page, re.DOTALL)
    assert box is not None
    assert "Often." in box[1]
    assert "Yes." in box[1]
    assert "None." not in box[1]


@pytest.mark.parametrize(
    "line",
    [
        '<script src="https://unpkg.com/a.js"></script>',
        '<link rel="stylesheet" href="https://fonts.googleapis.com/css">',
        '<img alt="x" src="http://example.org/x.png">',
        "<style>@import url(https://example.org/a.css);</style>",
    ],
)
def test_a_page_that_would_fetch_something_stops_the_build(line: str, make: Any) -> None:
    website = make("website")
    website.refuse_fetching('<a href="https://arxiv.org/abs/2101.00001">a link</a>', "x.md")
    with pytest.raises(ValueError, match=r"x\.md would fetch"):
        website.refuse_fetching(f"<p>text</p>{line}", "x.md")


def test_a_notebook_becomes_a_page_with_its_outputs(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbformat import v4, write

    shown = [
        v4.new_output("stream", name="stdout", text="12 rows\n"),
        v4.new_output("display_data", data={"image/png": "iVBORw0K"}),
        v4.new_output(
            "execute_result",
            data={"text/html": '<style scoped>a</style>\n\n<table border="1" class="dataframe">'},
        ),
    ]
    cells = [
        v4.new_markdown_cell(
            "# A story\n\nWhat it tells, see [lens](../docs/lens.md).\n\n## Where?"
        ),
        v4.new_code_cell("1 + 1", outputs=shown),
        v4.new_markdown_cell("Next: [another](back_patching.ipynb)."),
    ]
    write(v4.new_notebook(cells=cells), tmp_path / "a_story.ipynb")
    stories = make("stories")
    monkeypatch.setattr(stories, "NOTEBOOKS", tmp_path)
    (story,) = stories.stories()
    assert (story.name, story.title) == ("a_story", "A story")
    assert story.lead == "What it tells, see [lens](lens.md)."
    assert "[lens](../lens.md)" in story.markdown
    assert "[another](back_patching.md)" in story.markdown
    assert "```python\n1 + 1\n```" in story.markdown
    assert "```text\n12 rows\n```" in story.markdown
    assert '<div class="output"><table></div>' in story.markdown
    assert "![Figure 1: Where?](../images/stories/a_story-1.png)" in story.markdown
    assert story.pictures == {"images/stories/a_story-1.png": b"\x89PNG\r\n"}
    assert "## [A story](stories/a_story.md)\n\nWhat it tells" in stories.contents()
