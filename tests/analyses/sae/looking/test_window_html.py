"""Tokens on colour: readable in both dresses, and never markup."""

from __future__ import annotations

import pytest

from layerscope.analyses.sae.looking.window_html import STRONGEST, WEAKEST, opacity, signs, window
from layerscope.theme import SURFACES

VALUE = {"light": "#0072b2", "dark": "#3c8dbc"}
"""--value of report.css."""


def luminance(rgb: tuple[float, ...]) -> float:
    """Of WCAG 2.1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def channels(color: str) -> tuple[float, ...]:
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))


def contrast(dress: str, share: float) -> float:
    paper, ink = channels(SURFACES[dress]["paper"]), channels(SURFACES[dress]["ink"])
    value = channels(VALUE[dress])
    behind = tuple(share * v + (1 - share) * p for v, p in zip(value, paper, strict=True))
    low, high = sorted([luminance(behind), luminance(ink)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dress", ["light", "dark"])
@pytest.mark.parametrize("share", [0.0, WEAKEST, STRONGEST])
def test_text_on_colour_is_readable(dress: str, share: float) -> None:
    assert contrast(dress, share) > 4.5  # WCAG AA


def test_the_colours_are_those_of_the_report() -> None:
    from layerscope.report import report as package

    style = (package.__globals__["HERE"] / "report.css").read_text("utf-8")
    assert f"--value: light-dark({VALUE['light']}, {VALUE['dark']});" in style


def test_colour_grows_evenly_with_the_code() -> None:
    assert opacity(0, 4) == WEAKEST
    assert opacity(4, 4) == STRONGEST
    assert opacity(2, 4) == pytest.approx((WEAKEST + STRONGEST) / 2)
    assert opacity(5, 4) == STRONGEST
    assert opacity(0, 0) == WEAKEST


def test_a_window_says_each_number_and_marks_its_token() -> None:
    html = window(["a", " b", " c"], [0.0, 2.0, 0.5], 1, 2.0)
    assert html == (
        'a<b><mark style="--a:0.55" title="2.00"> b<span class="said"> (2.00)</span></mark></b>'
        '<mark style="--a:0.23" title="0.500"> c<span class="said"> (0.500)</span></mark>'
    )


def test_a_token_of_no_characters_can_be_seen_where_it_counts() -> None:
    html = window(["", "", "é"], [0.0, 1.0, 0.0], 2, 1.0)
    assert html.startswith('<mark style="--a:0.55" title="1.00">·<span')
    assert window([""], [0.0], 0, 1.0) == "<b>·</b>"


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("<script>", "&lt;script&gt;"),
        ("\"'&", "&quot;&#x27;&amp;"),
        ("a\nb\tc", "a⏎b⇥c"),
        ("\x00\x1b\x7f", ""),
        ("é 漢 ", "é 漢 "),
        ("a\u202eb\u2066", "a·b·"),  # would turn the tokens after it
    ],
)
def test_whatever_a_token_is_it_is_text(token: str, shown: str) -> None:
    assert signs(token) == shown
