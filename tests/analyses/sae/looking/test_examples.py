"""Examples: the right rows, with the tokens around them as they stand in the text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from layerscope.analyses.sae.looking.examples import AFTER, BEFORE, commonest, examples_of
from layerscope.analyses.sae.looking.firing import firing
from layerscope.analyses.sae.sae import SAE
from layerscope.store import Store

ALL = range(6)


def examples(known: Any, sampled: int = 8, top: int = 3, latents: Any = ALL) -> Any:
    seen = firing(known.sae, known.store, [known.site], top=top, progress=False)
    return examples_of(known.sae, known.store, [known.site], seen, latents, sampled=sampled)


def test_windows_are_the_text_and_codes_those_planted(known_words: Any) -> None:
    rows, codes = known_words.rows, known_words.codes
    for latent, found in enumerate(examples(known_words)):
        for one in found:
            text = rows["text"][one["row"]]
            first = one["row"] - one["focus"]
            window = slice(first, first + len(one["tokens"]))
            assert (rows["text"][window] == text).all()
            assert one["tokens"] == rows["token"][window].tolist()
            assert one["codes"] == codes[window, latent].tolist()
            assert one["value"] == codes[one["row"], latent] > 0
            whole = rows["content"][one["row"]]
            assert "".join(one["tokens"]) in whole
            assert one["before"] == (rows["position"][first] > 0)
            assert one["after"] == (rows["position"][window.stop - 1] < 8)


def test_the_strongest_come_first_and_are_not_drawn_again(known_words: Any) -> None:
    for latent, found in enumerate(examples(known_words)):
        top = [one for one in found if one["kind"] == "top"]
        drawn = [one for one in found if one["kind"] != "top"]
        assert [one["value"] for one in top] == sorted((o["value"] for o in top), reverse=True)
        assert not {one["row"] for one in top} & {one["row"] for one in drawn}
        assert len(drawn) == (0 if latent == 4 else 8)
    assert examples(known_words)[4] == []  # the dead latent
    for found in examples(known_words, top=20):  # so many that chance would meet them
        top = [one["row"] for one in found if one["kind"] == "top"]
        assert len({one["row"] for one in found}) == len(found) >= len(top)


def test_each_quarter_gives_as_many_from_its_own_range(known_words: Any) -> None:
    for latent, found in enumerate(examples(known_words, sampled=8)):
        if latent == 4:
            continue
        codes = np.sort(known_words.codes[:, latent])[::-1]
        codes = codes[codes > 0]
        parts = np.array_split(codes, 4)  # fewer than the pool holds, so these are its quarters
        for quarter, part in enumerate(parts, 1):
            own = [o["value"] for o in found if o["kind"] == f"quarter {quarter}"]
            assert len(own) == 2
            assert part.min() <= min(own)
            assert max(own) <= part.max()


def test_an_uneven_number_goes_to_the_strong_quarters(known_words: Any) -> None:
    kinds = [one["kind"] for one in examples(known_words, sampled=6)[0] if one["kind"] != "top"]
    assert kinds == ["quarter 1"] * 2 + ["quarter 2"] * 2 + ["quarter 3", "quarter 4"]


def test_latents_come_in_the_order_asked_for(known_words: Any) -> None:
    every = examples(known_words)
    assert examples(known_words, latents=[3, 0]) == [every[3], every[0]]


def test_the_commonest_token_and_its_share(known_words: Any) -> None:
    seen = firing(known_words.sae, known_words.store, [known_words.site], top=1, progress=False)
    tokens, shares = commonest(seen.pool, known_words.store)
    for latent in (0, 1, 2, 3, 5):
        rows = seen.pool.row[latent]
        counts = known_words.rows["token"].iloc[rows[rows >= 0].numpy()].value_counts()
        assert counts[tokens[latent]] == counts.max()
        assert shares[latent] == pytest.approx(counts.max() / counts.sum())
    assert tokens[4] is None


def single(tmp_path: Path, rows: pd.DataFrame) -> Any:
    """A store where one latent fires on the middle row."""
    store = Store.create(tmp_path / "s", {}, sites={"a": 2}, dtype=torch.float32, about={})
    x = torch.zeros(len(rows), 2)
    x[len(rows) // 2, 0] = 1.0
    store.write(0, {"a": x}, rows)
    store.finish(1)
    sae = SAE(torch.eye(2), torch.zeros(2), torch.eye(2), torch.zeros(2))
    seen = firing(sae, store, ["a"], top=1, progress=False)
    return examples_of(sae, store, ["a"], seen, [0], sampled=0)[0][0]


def frame(spans: list[tuple[int, int]], content: str) -> pd.DataFrame:
    starts, ends = zip(*spans, strict=True)
    tokens = [content[a:b] for a, b in spans]
    return pd.DataFrame(
        {
            "text": 0,
            "group": 0,
            "token": tokens,
            "char_start": starts,
            "char_end": ends,
            "content": content,
        }
    )


def test_a_window_has_so_many_rows_before_and_after(tmp_path: Path) -> None:
    content = "abcdefghijklmnopqrstuvwxyz" * 2
    one = single(tmp_path, frame([(i, i + 1) for i in range(52)], content))
    assert "".join(one["tokens"]) == content[26 - BEFORE : 27 + AFTER]
    assert (one["focus"], one["before"], one["after"]) == (BEFORE, True, True)


def test_blanks_that_tokens_lack_and_words_that_were_left_out(tmp_path: Path) -> None:
    content = "the old  man sat here"
    one = single(tmp_path, frame([(0, 3), (4, 7), (9, 12), (17, 21)], content))
    assert one["tokens"] == ["the", " old", "  man", " … here"]


def test_of_the_bytes_of_one_character_the_last_shows_it(tmp_path: Path) -> None:
    rows = frame([(0, 1), (1, 2), (1, 2), (2, 3)], "aéb").assign(
        token=["a", "<0xC3>", "<0xA9>", "b"]
    )
    assert single(tmp_path, rows)["tokens"] == ["a", "", "é", "b"]


def test_rows_without_texts_have_their_numbers(tmp_path: Path) -> None:
    one = single(tmp_path, pd.DataFrame({"sample": range(3), "group": range(3)}))
    assert (one["tokens"], one["row"], one["before"], one["after"]) == ([" row 1"], 1, False, False)
