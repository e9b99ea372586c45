"""A figure as the pictures of a docs page: one on white paper, one on dark, both small."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageColor

from layerscope.theme import SEQUENCE, SURFACES, themed

if TYPE_CHECKING:
    import plotly.graph_objects as go

IMAGES = Path(__file__).resolve().parents[1] / "images"
WIDTH = 760
"""CSS pixels of the text column of the site; a picture has twice as many, for sharp screens."""
HEIGHT = 440
MOST = 120_000
"""Bytes above which a picture gets fewer colours."""
TALLEST = 3000
"""Pixels of a page, at most."""


def save(
    figure: go.Figure,
    name: str,
    *,
    width: int = WIDTH,
    height: int | None = None,
    folder: Path = IMAGES,
) -> list[Path]:
    """Write `NAME.png` and `NAME-dark.png`, drawn twice as large as they are shown.

    Args:
        figure: as an analysis draws it; the template is layerscope's, whatever it has.
        name: of the picture, without ending.
        width: in CSS pixels.
        height: in CSS pixels; that of the figure unless given, and 440 where it has none.
        folder: where the pictures go.

    Returns:
        The two files, light and dark.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tall = int(height or figure.layout.height or HEIGHT)
    figure = themed(figure)
    figure.layout.updatemenus = []  # nobody can open a menu in a picture
    paths = []
    for dress, suffix in (("light", ""), ("dark", "-dark")):
        drawn = _drawn(_titled(themed(figure, dark=dress == "dark")), width, tall)
        paths.append(folder / f"{name}{suffix}.png")
        paths[-1].write_bytes(_light(drawn, SURFACES[dress]["paper"]))
    return paths


def save_page(html: str, name: str, *, width: int = 880, folder: Path = IMAGES) -> list[Path]:
    """The same of a piece of HTML, such as a finding's `page()`, as a report shows it.

    Args:
        html: static; nothing in it is run.
        name: of the picture, without ending.
        width: in CSS pixels.
        folder: where the pictures go.
    """
    css = (resources.files("layerscope.report") / "report.css").read_text()
    paths = []
    for dress, suffix in (("light", ""), ("dark", "-dark")):
        page = (
            f'<!doctype html><html data-theme="{dress}"><meta charset="utf-8"><style>{css}'
            f"body {{ padding: 0 1rem }} section {{ margin: 0 }}</style>"
            f"<body><main><section>{html}</section></main></body></html>"
        )
        paths.append(folder / f"{name}{suffix}.png")
        paths[-1].write_bytes(small(_photographed(page, width), SURFACES[dress]["paper"], 48))
    return paths


def small(png: bytes, paper: str, most: int = 256) -> bytes:
    """The picture in its commonest colours, each exactly: a line keeps the hue of its meaning.

    Rarer ones, on the edges of letters and lines, become the nearest of these.
    """
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.uint32)
    packed = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    names, where, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colors = np.stack([names >> 16, names >> 8 & 255, names & 255], axis=1)
    # Of colours that hardly differ the commonest stands for all, so that a scale of many shades
    # does not push out the thin lines, whose hues say what they mean.
    order = np.argsort(-counts, kind="stable")
    kin = (colors[order] >> 3) @ np.array([1 << 10, 1 << 5, 1])
    _, first, which = np.unique(kin, return_index=True, return_inverse=True)
    weights = np.bincount(which, counts[order])
    common = colors[order][first[np.argsort(-weights, kind="stable")]]
    dress = next(one for one in SURFACES.values() if one["paper"] == paper)
    flat = np.array([ImageColor.getrgb(color)[:3] for color in (*dress.values(), *SEQUENCE)])
    hues = [*flat[len(dress) :], *flat[: len(dress)]]
    faint = [flat[0] + share * (hue - flat[0]) for share in (0.75, 0.5, 0.25) for hue in hues]
    # Half of them for what the picture holds: a map's scale of colours is not the house's.
    half = most // 2
    palette = np.vstack([flat, common[:half], faint, common[half:]])[:most].astype(np.float32)
    squares = (palette**2).sum(1) - 2 * colors.astype(np.float32) @ palette.T
    index = squares.argmin(1).astype(np.uint8)[where.reshape(-1)]
    reduced = Image.fromarray(index.reshape(pixels.shape[:2]), "P")
    reduced.putpalette(palette.astype(np.uint8).tobytes())
    file = io.BytesIO()
    reduced.save(file, "PNG", optimize=True)
    return file.getvalue()


def _light(png: bytes, paper: str) -> bytes:
    """With as many colours as a file of a size that pages load at once allows."""
    made = small(png, paper)
    for colors in (96, 48, 32):
        made = made if len(made) < MOST else small(png, paper, colors)
    return made


def _titled(figure: go.Figure) -> go.Figure:
    """With the title at the top and room for it above the legend; plotly would cut it off."""
    layout = figure.layout
    if not layout.title.text:
        return figure
    # Of several lines plotly places the first half a line too high.
    pad = {"t": 24 if "<br>" in layout.title.text else 10}
    title = {"y": 1, "yref": "container", "yanchor": "top", "pad": pad, "automargin": False}
    return figure.update_layout(title=title, margin={"t": max(layout.margin.t or 0, 78)})


def _drawn(figure: go.Figure, width: int, height: int) -> bytes:
    import kaleido

    # One browser for all pictures; without mathjax, which kaleido would ask the network for.
    kaleido.start_sync_server(n=1, mathjax=False, silence_warnings=True)
    options = {"format": "png", "width": width, "height": height, "scale": 2}
    drawn: bytes = kaleido.calc_fig_sync(figure.to_dict(), opts=options)
    return drawn


def _photographed(html: str, width: int) -> bytes:
    """The page in headless Chromium, cut off where it ends."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise FileNotFoundError("a picture of a page needs chromium")
    with tempfile.TemporaryDirectory() as scratch:
        page, shot = Path(scratch, "page.html"), Path(scratch, "page.png")
        page.write_text(html)
        subprocess.run(
            [
                browser,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--force-device-scale-factor=2",
                f"--user-data-dir={scratch}/profile",
                f"--window-size={width},{TALLEST}",
                f"--screenshot={shot}",
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
        )
        image = Image.open(shot).convert("RGB")
    empty = Image.new("RGB", image.size, image.getpixel((0, 0)))
    box = ImageChops.difference(image, empty).getbbox() or (0, 0, 1, 1)
    file = io.BytesIO()
    image.crop((0, 0, image.width, box[3] + 24)).save(file, "PNG")
    return file.getvalue()
