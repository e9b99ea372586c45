"""Tokens as a reader wants to see them."""

from __future__ import annotations

from typing import Any

_SPACES = ("\u2581", "\u0120")
"""How SentencePiece and byte-level BPE write the space before a word."""
_MARKS = {"\n": "\u23ce", "\t": "\u21e5", "\r": "\u240d"}
LONGEST = 11


def piece(tokenizer: Any, token: int) -> str:
    """A single token as text, its leading space kept; without tokenizer its number.

    Bytes that are no whole character keep the tokenizer's own spelling, such as ``<0xE2>``.
    """
    if tokenizer is None:
        return str(token)
    text: str = tokenizer.decode([token])
    own = str(tokenizer.convert_ids_to_tokens(token))
    if own in _SPACES:
        return " "
    if not text or "\ufffd" in text:
        return own
    return f" {text}" if own.startswith(_SPACES) and not text.startswith(" ") else text


def shown(text: str, longest: int = LONGEST) -> str:
    """A token for a cell: no leading space, line breaks as signs, cut where it is too long.

    >>> shown(" the"), shown("\\n"), shown("  "), shown(" incomprehensible")
    ('the', '⏎', '␣␣', 'incompreh…')
    """
    for mark, sign in _MARKS.items():
        text = text.replace(mark, sign)
    text = text.strip(" ") or "\u2423" * len(text)
    return text if len(text) < longest else f"{text[: longest - 2]}\u2026"
