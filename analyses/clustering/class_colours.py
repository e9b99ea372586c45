"""A colour and a shape for each class, the same in every figure."""

from __future__ import annotations

from collections.abc import Sequence

from layerscope.theme import COLORS, SEQUENCE

_BLUE, _RED, _GREEN, _PINK, _GREY, _OCHRE, _VIOLET, _SKY = SEQUENCE
UPOS = {
    "NOUN": (_BLUE, "circle"),
    "PROPN": (_BLUE, "diamond-open"),
    "PRON": (_SKY, "triangle-up"),
    "VERB": (_RED, "circle"),
    "AUX": (_RED, "diamond-open"),
    "ADJ": (_GREEN, "circle"),
    "ADV": (_GREEN, "diamond-open"),
    "DET": (_PINK, "square"),
    "NUM": (_PINK, "x"),
    "ADP": (_OCHRE, "square"),
    "PART": (_OCHRE, "triangle-up-open"),
    "SCONJ": (_VIOLET, "square"),
    "CCONJ": (_VIOLET, "diamond-open"),
    "INTJ": (_GREY, "x"),
    "PUNCT": (_GREY, "cross"),
    "SYM": (_GREY, "triangle-up"),
    "X": (_GREY, "square-open"),
}
"""Kin have one hue and differ in shape: nouns and names, verbs and auxiliaries."""
_SHAPES = ("circle", "diamond-open", "square", "x", "triangle-up", "square-open")


def marks(classes: Sequence[str], other: str) -> dict[str, tuple[str, str]]:
    """Colour and plotly symbol of each class; `other` is grey.

    >>> marks(["NOUN", "rest"], "rest")["rest"]
    ('#7d7d7d', 'circle-open')
    """
    known = all(name in UPOS or name == other for name in classes)
    hues = [color for color in SEQUENCE if color != COLORS["other"]]
    found = {}
    for number, name in enumerate(classes):
        turn, place = divmod(number, len(hues))
        found[name] = (
            UPOS[name] if known and name in UPOS else (hues[place], _SHAPES[turn % len(_SHAPES)])
        )
    if other in found:
        found[other] = (COLORS["other"], "circle-open")
    return found
