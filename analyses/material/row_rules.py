"""What a row of a store stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerscope.store import Store


def row_rule(store: Store) -> str:
    """``tokens``, ``words``, ``mean``, ...: the rule by which the store's rows were made.

    Stores say it as a word, or as a mapping with a ``rule``; one that says nothing has tokens.
    """
    given = store.parts.get("rows") or "tokens"
    return str(given.get("rule", "tokens") if isinstance(given, Mapping) else given)
