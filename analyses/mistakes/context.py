"""A row of a store as a reader wants to see it: the token, in brackets, in its text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

AROUND = 40
"""Characters shown on either side."""


class Contexts:
    """Texts put together again from the tokens of a store's rows."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        name = next((c for c in ("text", "sample") if c in frame), None)
        self._text = frame[name].to_numpy() if name else None
        self._spelt = {"token", "char_start", "char_end"} <= set(frame.columns)

    def __call__(self, row: int) -> str:
        """``... the old [man] sat ...``; a sample without tokens is named by its number."""
        if self._text is None or not self._spelt:
            number = row if self._text is None else self._text[row]
            return f"sample {number}"
        frame = self._frame
        same = np.flatnonzero(self._text == self._text[row])
        spans = frame[["char_start", "char_end"]].iloc[same].to_numpy(dtype=np.int64)
        letters = _letters(frame["token"].iloc[same].tolist(), spans)
        start, end = (int(frame[name].iloc[row]) for name in ("char_start", "char_end"))
        words = frame["word_index"].to_numpy() if "word_index" in frame else None
        if words is not None and words[row] >= 0:  # False for NaN, too
            own = spans[words[same] == words[row]]
            start, end = int(own[:, 0].min()), int(own[:, 1].max())
        while start < end and letters[start] == " ":
            start += 1
        left, right = letters[max(0, start - AROUND) : start], letters[end : end + AROUND]
        before = "…" if start > AROUND else ""
        after = "…" if end + AROUND < len(letters) else ""
        return f"{before}{left.lstrip()}[{letters[start:end]}]{right.rstrip()}{after}"


def _letters(tokens: list[str], spans: NDArray[np.int64]) -> str:
    """The text, with spaces where no token of the store is."""
    letters = [" "] * int(spans[:, 1].max())
    for token, (start, end) in zip(tokens, spans.tolist(), strict=True):
        for place, letter in enumerate(str(token)[-(end - start) :] if end > start else "", start):
            letters[place] = letter
    return "".join(letters)
