"""What mkdocs does here beyond its plugins: dark pictures, drawings, captions, measured figures.

A hook of mkdocs (`hooks:` in mkdocs.yml). Pages stay plain Markdown that any viewer shows: an image
names its light file, a drawing is an SVG file, a caption is an italic paragraph below an image. Here
the dark file joins its light one, a drawing becomes part of the page so that it follows the colours
chosen there, and the lists that are made from other files are put where a comment asks for them.
"""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as etree
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Beside this file: mkdocs puts the folder of a hook first.
import performance
import stories
from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor
from markdown.util import AtomicString
from mkdocs.structure.files import File
from PIL import Image

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

DOCS = Path(__file__).resolve().parents[1]
SCALE = 2
"""Pixels of a picture for each pixel it takes on the page."""


MADE = {"<!-- benchmarks -->": performance.page, "<!-- stories -->": stories.contents}
"""Where a page asks for it -> what is put there."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.markdown_extensions.append(House())  # type: ignore[arg-type]
    pages = [f"stories/{story.name}.md" for story in stories.stories()]
    told = next(part for part in config.nav or [] if "Stories" in part)
    told["Stories"] = [{"All stories": "stories.md"}, *pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for story in stories.stories():
        files.append(File.generated(config, f"stories/{story.name}.md", content=story.markdown))
        for address, picture in story.pictures.items():
            files.append(File.generated(config, address, content=picture))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    for place, make in MADE.items():
        if place in markdown:
            markdown = markdown.replace(place, make())
    return markdown


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """A docstring names its page by file, for readers of the code; here it stands on that page."""
    return html.replace(f"docs/{page.file.src_uri}", "this page")


def on_post_page(output: str, page: Page, **_: Any) -> str:
    refuse_fetching(output, page.file.src_uri)
    return output


def refuse_fetching(html: str, name: str) -> None:
    """Nothing on a page is fetched from elsewhere when it is opened.

    Raises:
        ValueError: a script, style or picture with an address of its own.
    """
    found = re.search(
        r"<(?:script|img|iframe|source|video|audio)\b[^>]*\ssrc=\"?(?:https?:)?//[^>]*"
        r"|<link\b(?=[^>]*rel=\"?(?:stylesheet|icon|preload|preconnect))[^>]*href=\"?(?:https?:)?//[^>]*"
        r"|@import\s+url\((?:https?:)?//[^)]*",
        html,
    )
    if found:
        raise ValueError(f"{name} would fetch from the network: {found[0][:120]}")


class House(Extension):
    """The extension of Python-Markdown that holds the changes to a page's tree."""

    def extendMarkdown(self, md: Markdown) -> None:
        # After the inline patterns made images (20), before links are made relative to the site (0).
        md.treeprocessors.register(Pictures(md), "house-pictures", 15)
        md.treeprocessors.register(Places(md), "house-places", 14)
        md.treeprocessors.register(Breaks(md), "house-breaks", 13)


class Pictures(Treeprocessor):
    """Images alone in a paragraph become figures, with the italic paragraph below as caption."""

    def run(self, root: etree.Element) -> None:
        for parent in list(root.iter()):
            for index, child in enumerate(list(parent)):
                image = _only(child, "img")
                if child.tag != "p" or image is None:
                    continue
                following = parent[index + 1] if index + 1 < len(parent) else None
                caption = None if following is None else _only(following, "em")
                self._make(child, image)
                if caption is not None and following is not None and following.tag == "p":
                    following.set("class", "caption")

    def _make(self, paragraph: etree.Element, image: etree.Element) -> None:
        paragraph.tag = "figure"
        source = image.get("src", "")
        if source.endswith(".svg"):
            self._draw(paragraph, image, Path(source).name)
            return
        light = DOCS / source[source.index("images/") :] if "images/" in source else DOCS
        dark = light.with_name(f"{light.stem}-dark.png")
        for known in (light, dark):
            if known.is_file():
                _sized(image, known)
        if dark.is_file():
            image.set("class", "only-light")
            twin = etree.SubElement(paragraph, "img", dict(image.attrib))
            twin.set("src", source.replace(light.name, dark.name))
            twin.set("class", "only-dark")

    def _draw(self, paragraph: etree.Element, image: etree.Element, name: str) -> None:
        """The SVG itself, without the colours that it carries for other viewers."""
        drawing = (DOCS / "drawings" / name).read_text()
        inner = re.sub(r"<style>.*?</style>\n?", "", drawing, flags=re.DOTALL)
        said = escape(image.get("alt", ""))
        inner = inner.replace("<svg ", f'<svg role="img" aria-label="{said}" ', 1)
        paragraph.remove(image)
        paragraph.set("class", "drawing")
        pan = etree.SubElement(paragraph, "div", {"class": "pan"})
        pan.text = self.md.htmlStash.store(inner)


class Places(Treeprocessor):
    """The questions below titles, and the caveats behind their rule."""

    def run(self, root: etree.Element) -> None:
        children = list(root)
        for before, after in itertools.pairwise(children):
            if before.tag in ("h1", "h2") and after.tag == "p" and _only(after, "em") is not None:
                after.set("class", "question")
        for heading in [c for c in children if c.tag == "h2"]:
            if "".join(heading.itertext()).strip() == "How it misleads":
                _wrap(root, heading, "care")


class Breaks(Treeprocessor):
    """Calls in tables may break after their dots, brackets and commas, not in the middle of a word."""

    def run(self, root: etree.Element) -> None:
        for cell in root.iter("td"):
            for code in cell.iter("code"):
                first, *rest = re.split(r"(?<=[.(\[,=_/])(?=.)", code.text or "")
                code.text = AtomicString(first)
                for part in rest:
                    etree.SubElement(code, "wbr").tail = AtomicString(part)


def _wrap(root: etree.Element, heading: etree.Element, name: str) -> None:
    """What stands under a heading goes into one element of that class."""
    start = list(root).index(heading) + 1
    under = []
    for child in list(root)[start:]:
        if child.tag in ("h1", "h2"):
            break
        under.append(child)
    box = etree.Element("div", {"class": name})
    for child in under:
        root.remove(child)
        box.append(child)
    root.insert(start, box)


def _only(element: etree.Element, tag: str) -> etree.Element | None:
    """The child, if it is of that tag and all that the element holds."""
    if len(element) != 1 or element[0].tag != tag:
        return None
    return element[0] if not (element.text or element[0].tail or "").strip() else None


def _sized(image: etree.Element, path: Path) -> None:
    """Room for the picture before it is there, so that the page does not jump."""
    with Image.open(path) as picture:
        width, height = picture.size
    image.set("width", str(width // SCALE))
    image.set("height", str(height // SCALE))
    image.set("loading", "lazy")
