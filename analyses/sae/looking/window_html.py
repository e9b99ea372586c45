"""One example as HTML: tokens of a text, coloured by the code of one latent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from layerscope.wording import measured

STRONGEST = 0.55
"""Opacity of the colour behind the strongest token: text on it stays readable in both dresses."""
WEAKEST = 0.12
"""Of the weakest that is not zero, so that it can be seen."""
NOTHING = "·"
"""Stands for a token without characters of its own, such as the first byte of one."""
_SIGNS = {"\n": "⏎", "\r": "␍", "\t": "⇥"}
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters that turn the direction of all that follows them, tokens of others included."""


def window(tokens: Sequence[str], codes: Sequence[float], focus: int, largest: float) -> str:
    """Tokens as they stand, those with a code marked; the number is read out and shown on pointing."""
    parts = []
    for place, (token, code) in enumerate(zip(tokens, codes, strict=True)):
        inner = signs(token) or (NOTHING if code > 0 or place == focus else "")
        if code > 0:
            number = measured(code)
            inner = (
                f'<mark style="--a:{opacity(code, largest):.2f}" title="{number}">{inner}'
                f'<span class="said"> ({number})</span></mark>'
            )
        parts.append(f"<b>{inner}</b>" if place == focus else inner)
    return "".join(parts)


def opacity(code: float, largest: float) -> float:
    """Of the colour behind a token, growing evenly with its code."""
    share = min(1.0, code / largest) if largest > 0 else 0.0
    return WEAKEST + (STRONGEST - WEAKEST) * share


def signs(text: str) -> str:
    """Text escaped, line breaks and tabs as signs, control characters left out, also of direction."""
    text = _TURNING.sub(NOTHING, text)
    for mark, sign in _SIGNS.items():
        text = text.replace(mark, sign)
    return escape("".join(one for one in text if one.isprintable() or not one.isascii()))
