"""Examples of each latent: the strongest rows and some drawn at random, each with the tokens around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerscope.analyses.sae.looking.best import Best
from layerscope.analyses.sae.looking.firing import Firing, block_size, blocks, texts_of
from layerscope.analyses.sae.sae import SAE
from layerscope.store import Store

if TYPE_CHECKING:
    import pandas as pd

BEFORE, AFTER = 14, 8
"""Rows around an example, of the same text."""
QUARTERS = 4
Integers = NDArray[np.int64]
Example = dict[str, Any]
"""kind ("top", "quarter 1" for the strongest to "quarter 4"), row, value, focus (place of the row in the
window), before and after (whether the text goes on there), tokens and codes of the window."""


def examples_of(
    sae: SAE,
    store: Store,
    sites: Sequence[str],
    seen: Firing,
    latents: Sequence[int],
    *,
    sampled: int,
) -> list[list[Example]]:
    """The examples of each of `latents`; the rows of all windows are encoded once more, together.

    Args:
        seen: What the pass found.
        sampled: Random firings, in equal parts from each quarter of their distribution; none that
            is among the strongest already.
    """
    top = {name: getattr(seen.top, name).cpu().numpy() for name in ("row", "value")}
    pool = {name: getattr(seen.pool, name).cpu().numpy() for name in ("row", "value")}
    chosen: list[tuple[int, str, int, float]] = []
    for latent in latents:
        strongest = _strongest(top["row"][latent], top["value"][latent])
        taken = {row for row, _ in strongest}
        chosen += [(latent, "top", *one) for one in strongest]
        chosen += [
            (latent, f"quarter {quarter + 1}", row, value)
            for quarter, row, value in _drawn(
                pool["row"][latent], pool["value"][latent], sampled, taken
            )
        ]
    spans = _Windows(store)
    windows = [spans(row) for _, _, row, _ in chosen]
    codes = _codes(sae, store, sites, [latent for latent, *_ in chosen], windows)
    found: dict[int, list[Example]] = {latent: [] for latent in latents}
    for (latent, kind, row, value), (first, last), own in zip(chosen, windows, codes, strict=True):
        own[row - first] = value
        example = {"kind": kind, "row": row, "value": value, "focus": row - first}
        example |= spans.cut(first, last)
        found[latent].append(example | {"tokens": spans.tokens(first, last), "codes": own.tolist()})
    return [found[latent] for latent in latents]


def commonest(pool: Best, store: Store) -> tuple[list[str | None], list[float]]:
    """The token that each latent fires on most often among its drawn firings, and its share of them."""
    import pandas as pd

    frame = store.rows
    drawn = pool.row.cpu().numpy()
    if "token" not in frame:
        return [None] * len(drawn), [float("nan")] * len(drawn)
    codes, tokens = pd.factorize(frame["token"])
    names: list[str | None] = []
    shares = []
    for rows in drawn:
        found = codes[rows[rows >= 0]]
        counts = np.bincount(found[found >= 0])
        names.append(str(tokens[int(counts.argmax())]) if len(counts) else None)
        shares.append(float(counts.max() / len(found)) if len(counts) else float("nan"))
    return names, shares


def _strongest(rows: Integers, values: NDArray[np.float32]) -> list[tuple[int, float]]:
    there = rows >= 0
    return [(int(r), float(v)) for r, v in zip(rows[there], values[there], strict=True)]


def _drawn(
    rows: Integers, values: NDArray[np.float32], wanted: int, taken: set[int]
) -> list[tuple[int, int, float]]:
    """Quarter, row and value of some of the pool; the pool is in random order, so its first ones are random."""
    there = rows >= 0
    rows, values = rows[there], values[there]
    order = np.lexsort((rows, -values))
    found = []
    for quarter, part in enumerate(np.array_split(order, QUARTERS)):
        free = [int(place) for place in np.sort(part) if int(rows[place]) not in taken]
        most = wanted // QUARTERS + (quarter < wanted % QUARTERS)
        picked = sorted(free[:most], key=lambda place: (-values[place], rows[place]))
        found += [(quarter, int(rows[place]), float(values[place])) for place in picked]
    return found


class _Windows:
    """The rows around a row, and how they are written."""

    def __init__(self, store: Store) -> None:
        self._frame: pd.DataFrame = store.rows
        self._text = texts_of(store)
        names = {"text", "char_start", "char_end"}
        whole = names <= set(self._frame) and not self._frame[sorted(names)].isna().any(axis=None)
        self._texts = store.texts.to_dict() if whole else None
        columns = ("char_start", "char_end") if whole else ()
        self._spans = [self._frame[name].to_numpy(dtype=np.int64) for name in columns]
        # Bytes of one character, and a blank put before a text, have one place: the last one shows it.
        self._shared = np.zeros(len(self._text), dtype=bool)
        if whole:
            places = np.stack([self._text, *self._spans])
            self._shared[:-1] = (places[:, 1:] == places[:, :-1]).all(0)
        self._tokens = self._frame.get("token")
        self._interned: dict[str, str] = {}

    def __call__(self, row: int) -> tuple[int, int]:
        """First row and end of the window: rows of one text that lie together in the store."""
        first, last = row, row + 1
        while first > max(0, row - BEFORE) and self._text[first - 1] == self._text[row]:
            first -= 1
        while last < min(len(self._text), row + AFTER + 1) and self._text[last] == self._text[row]:
            last += 1
        return first, last

    def cut(self, first: int, last: int) -> dict[str, bool]:
        """Whether the text goes on before and after."""
        text, end = self._text, len(self._text)
        return {
            "before": first > 0 and bool(text[first - 1] == text[first]),
            "after": last < end and bool(text[last] == text[last - 1]),
        }

    def tokens(self, first: int, last: int) -> list[str]:
        """As they stand in the text, blanks included; what was left out of the store is "…"."""
        written = [self._token(row, row > first) for row in range(first, last)]
        return [self._interned.setdefault(one, one) for one in written]

    def _token(self, row: int, follows: bool) -> str:
        if self._texts is None:
            return self._named(row)
        start, end = (int(side[row]) for side in self._spans)
        text = str(self._texts[int(self._text[row])])
        ahead = follows and not self._shared[row - 1]
        before = int(self._spans[1][row - 1]) if ahead else start
        gap = text[before:start]
        if gap.strip():
            gap = " … "
        return gap + ("" if self._shared[row] else text[max(start, before) : end])

    def _named(self, row: int) -> str:
        token = None if self._tokens is None else self._tokens.iloc[row]
        return f" {token}" if isinstance(token, str) and token else f" row {row}"


def _codes(
    sae: SAE,
    store: Store,
    sites: Sequence[str],
    latents: Sequence[int],
    windows: Sequence[tuple[int, int]],
) -> list[NDArray[np.float64]]:
    """Codes of each window's latent at its rows."""
    sizes = np.array([last - first for first, last in windows], dtype=np.int64)
    asked_row = np.concatenate([np.arange(*window) for window in windows] or [np.arange(0)])
    asked_latent = np.repeat(np.asarray(latents, dtype=np.int64), sizes)
    order = np.argsort(asked_row, kind="stable")
    asked_row, asked_latent = asked_row[order], asked_latent[order]
    values = np.zeros(len(order))
    if len(order):
        rows = np.unique(asked_row)
        for x, index in blocks(store, sites, block_size(sae.n_latents), rows):
            numbers = index.numpy()
            part = slice(*np.searchsorted(asked_row, [numbers[0], numbers[-1] + 1]))
            local = torch.from_numpy(np.searchsorted(numbers, asked_row[part]))
            with torch.no_grad():
                codes = sae.encode(x.to(sae.W_enc.device))
            own = codes[
                local.to(codes.device), torch.from_numpy(asked_latent[part]).to(codes.device)
            ]
            values[order[part]] = own.cpu().double().numpy()
    return np.split(values, np.cumsum(sizes)[:-1]) if len(sizes) else []
