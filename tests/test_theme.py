from __future__ import annotations

import subprocess
import sys
from itertools import product

import plotly.graph_objects as go
import pytest

from layerscope.theme import COLORS, DASHES, SEQUENCE, SURFACES, faded, plain, template, themed


def luminance(color: str) -> float:
    """WCAG 2 relative luminance of `#rrggbb`."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_black_on_white_is_21() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize(
    ("color", "dress"), list(product(sorted({*COLORS.values(), *SEQUENCE}), ("light", "dark")))
)
def test_marks_stand_out_on_both_backgrounds(color: str, dress: str) -> None:
    assert contrast(color, SURFACES[dress]["paper"]) >= 3


@pytest.mark.parametrize(("kind", "dress"), list(product(("ink", "muted"), ("light", "dark"))))
def test_text_is_readable_on_both_backgrounds(kind: str, dress: str) -> None:
    assert contrast(SURFACES[dress][kind], SURFACES[dress]["paper"]) >= 4.5


def test_every_dash_belongs_to_a_colour() -> None:
    assert DASHES.keys() <= COLORS.keys()
    assert len(set(DASHES.values())) == len(DASHES)


@pytest.mark.parametrize("dark", [False, True])
def test_plotly_accepts_the_template(dark: bool) -> None:
    given = template(dark=dark)
    taken = go.layout.Template(given).to_plotly_json()
    assert taken["layout"]["font"] == given["layout"]["font"]
    assert taken["layout"]["paper_bgcolor"] == SURFACES["dark" if dark else "light"]["paper"]


def test_themed_copies_and_keeps_what_the_figure_says() -> None:
    figure = go.Figure(go.Scatter(x=[0, 1], y=[1, 2])).update_layout(height=333)
    before = figure.to_json()

    dressed = themed(figure, dark=True)

    assert figure.to_json() == before
    assert dressed.layout.height == 333
    assert dressed.layout.template.layout.font.color == SURFACES["dark"]["ink"]
    assert themed(figure).layout.template.layout.font.color == SURFACES["light"]["ink"]


def test_faded_keeps_the_hue() -> None:
    assert faded("#ff8000", 0.25) == "rgba(255, 128, 0, 0.25)"


def test_plain_text_is_not_markup() -> None:
    assert plain("a<b> & <br>") == "a&lt;b&gt; &amp; &lt;br&gt;"
    assert plain(3) == "3"


def test_importing_the_theme_does_not_import_plotly() -> None:
    code = (
        "import sys, layerscope.theme; print(*{'plotly', 'pandas', 'torch'} & sys.modules.keys())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
