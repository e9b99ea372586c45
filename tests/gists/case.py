"""A small table, and the sentence that a finding must make of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd


class Case(NamedTuple):
    """What one finding holds and says."""

    kind: str
    table: pd.DataFrame
    gist: str
    parameters: Mapping[str, Any] = MappingProxyType({})


def frame(columns: str, *rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=columns.split())


def block(number: int, part: str = "resid_post") -> str:
    return f"blocks.{number}.{part}"


def one(columns: str, *values: Any) -> pd.DataFrame:
    return frame(columns, values)
