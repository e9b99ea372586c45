"""What a latent can be found by: its number, its tokens and its class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.analyses.material.pieces import shown

if TYPE_CHECKING:
    import pandas as pd


def words_of(table: pd.DataFrame) -> list[str]:
    """For each line its words in lower case, a blank before and after each.

    Tokens are those it fires on (commonest, strongest) and those it raises.
    """
    tokens = [table[name] for name in ("token", "top_token", "class") if name in table]
    raised = table["up"] if "up" in table else [()] * len(table)
    found = []
    for number, up, *known in zip(table["latent"], raised, *tokens, strict=True):
        own = [str(number), *(one for one in known if isinstance(one, str)), *list(up)[:3]]
        written = (shown(one, longest=40).lower() for one in own)
        found.append(f" {' '.join(dict.fromkeys(written))} ")
    return found


def matches(table: pd.DataFrame, word: str) -> list[bool]:
    """Whether one of a line's words begins with `word`; with a blank after it, is `word`."""
    return [f" {word.lstrip().lower()}" in words for words in words_of(table)]
