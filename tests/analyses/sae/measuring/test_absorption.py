"""Absorption scores on numbers made by hand, and over a store with a planted absorber."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.analyses.sae.measuring.absorption import (
    absorption_fraction,
    full_absorption,
    projections,
)
from layerscope.analyses.sae.measuring.first_letters import (
    _begins,
    first_letters,
    letter_absorption,
    letter_probes,
    summary,
)
from layerscope.analyses.sae.measuring.measured_rows import measured_rows
from layerscope.analyses.sae.sae import SAE

COSINES = torch.tensor([0.9, 0.5, 0.3, 0.2, 0.15, 0.05])
SPLIT = torch.tensor([0])


def fraction(written, total: float = 10.0) -> float:
    found = absorption_fraction(torch.tensor([written]), COSINES, SPLIT, torch.tensor([total]))
    return float(found)


def test_a_fraction_by_hand() -> None:
    """x . w = 10, the split latents write 4, the others 5: min(5, 6) = 5, and 5 / 9."""
    assert fraction([4.0, 3.0, 2.0, 0.0, 0.0, 0.0]) == pytest.approx(0.556, abs=5e-4)
    assert fraction([4.0, 5.0, 3.0, 0.0, 0.0, 0.0]) == pytest.approx(6 / 10)  # only 6 is missing


def test_when_nothing_or_all_is_absorbed() -> None:
    assert fraction([10.0, 5.0, 0.0, 0.0, 0.0, 0.0]) == 0.0  # the split latents say it all
    assert fraction([4.0, 3.9, 0.0, 0.0, 0.0, 0.0]) == 0.0  # A / T below 0.4
    assert fraction([4.0, 4.0, 0.0, 0.0, 0.0, 0.0]) == pytest.approx(0.5)
    assert fraction([0.0, 6.0, 0.0, 0.0, 0.0, 0.0]) == 1.0
    assert fraction([-1.0, 6.0, 0.0, 0.0, 0.0, 0.0]) == 1.0
    assert fraction([4.0, 0.0, 0.0, 0.0, 0.0, 9.0]) == 0.0  # its cosine is below 0.1
    # At most three absorbers, and none that writes against the feature.
    assert fraction([4.0, 2.0, 1.5, 1.0, 0.5, 0.0]) == pytest.approx(4.5 / 8.5)
    assert fraction([4.0, 4.5, -3.0, 0.0, 0.0, 0.0]) == pytest.approx(4.5 / 8.5)


@pytest.mark.parametrize(
    ("split_on", "cosine", "share", "wanted"),
    [
        (False, 0.30, 0.40, True),
        (False, 0.30, 0.39, False),
        (False, 0.02, 0.90, False),
        (False, 0.03, 0.90, True),
        (True, 0.30, 0.90, False),
        (True, 0.02, 0.10, False),
    ],
)
def test_full_absorption_truth_table(split_on, cosine, share, wanted) -> None:
    codes = torch.tensor([[1.0 if split_on else 0.0, 0.0, 1.0]])
    written = torch.tensor([[0.0, 0.0, 10 * share]])
    cosines = torch.tensor([0.9, 0.8, cosine])
    split, total = torch.tensor([0, 1]), torch.tensor([10.0])
    assert bool(full_absorption(written, cosines, split, total, codes)) is wanted


def test_what_latents_write_along_a_direction() -> None:
    codes, decoder = torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    assert projections(codes, decoder, torch.tensor([0.0, 1.0])).tolist() == [[0.0, 4.0]]


def test_where_words_begin() -> None:
    text = "Anna's cat sat."
    assert _begins(text, 0, "Anna") == 0
    assert _begins(text, 2, "na") == -1
    assert _begins(text, 6, " cat") == 2
    assert _begins(text, 7, "cat") == 2  # tokens that do not hold the space before them
    assert _begins(text, 14, ".") == -1
    assert _begins("émile", 0, "émile") == -1


def planted(make_store, absorbing: bool):
    """Words with one feature for each first letter; every second word of "a" has its own latent.

    That latent writes the letter's direction too, and the letter's latent is silent there, if
    `absorbing`.
    """
    letters, words, copies = 5, 48, 6
    drawn = torch.Generator().manual_seed(0)
    width = letters + letters * words
    word = torch.arange(letters * words).repeat(copies)
    letter = word // words
    x = torch.zeros(len(word), width)
    x[torch.arange(len(word)), letter] = 2.0
    x[torch.arange(len(word)), letters + word] = 1.0
    x += 0.01 * torch.randn(x.shape, generator=drawn)
    special = torch.arange(0, words, 2)  # words of the letter a
    decoder = torch.cat([torch.eye(width)[:letters], torch.zeros(len(special), width)])
    encoder = decoder.clone()
    threshold = torch.full((letters + len(special),), 0.5)
    for i, one in enumerate(special.tolist()):
        decoder[letters + i, 0] = 2.0 * absorbing
        decoder[letters + i, letters + one] = 1.0
        encoder[letters + i, letters + one] = 1.0
        if absorbing:
            encoder[0, letters + one] = -4.0
    sae = SAE(
        encoder.T, torch.zeros(len(decoder)), decoder, torch.zeros(width),
        activation="jumprelu", threshold=threshold,
    )  # fmt: skip
    names = [f"{chr(97 + int(a))}{int(w)}" for a, w in zip(letter, word, strict=True)]
    store = make_store(
        {"here": x}, token=names, token_id=word.tolist(), char_start=0, char_end=3,
        text=list(range(len(names))), content=names, group=list(range(len(names))),
    )  # fmt: skip
    rows = measured_rows(
        sae, store, site="here", target=None, corpus=None, rows=10**6, seed=0, progress=False
    )
    return store, rows, sae


@pytest.mark.parametrize("absorbing", [True, False])
def test_a_planted_absorber_is_found(make_store, absorbing) -> None:
    store, rows, sae = planted(make_store, absorbing)
    letters = first_letters(store)
    assert len(letters.index) == 5 * 48 * 6
    probes = letter_probes(rows, letters, sae.d_in, sae.W_enc.device)
    found = {one.letter: one for one in letter_absorption(rows, letters, sae, probes)}
    assert set(found) == set("abcde")
    assert found["a"].split == (0,)
    tokens = np.concatenate([one.tokens for one in found.values()])
    assert len(np.unique(tokens)) == round(0.3 * 5 * 48)  # only those the probe was not trained on
    held = found["a"].tokens % 2 == 0
    assert held.any()
    if absorbing:
        assert found["a"].full[held].all()
        assert (found["a"].fraction[held] > 0.99).all()
    assert not found["a"].full[~held].any()
    for one in "bcde" if absorbing else "abcde":
        assert found[one].fraction.max() == 0.0
        assert not found[one].full.any()
    means = summary(list(found.values()))
    value, low, high, n = means["full"]
    assert n == sum(len(one.full) for one in found.values())
    assert value == pytest.approx(np.concatenate([one.full for one in found.values()]).mean())
    assert low <= value <= high
    assert (value > 0) is absorbing


def test_a_dead_dictionary_absorbs_nothing_because_it_says_nothing(make_store) -> None:
    store, rows, sae = planted(make_store, absorbing=True)
    letters = first_letters(store)
    probes = letter_probes(rows, letters, sae.d_in, sae.W_enc.device)
    dead = SAE(sae.W_enc, sae.b_enc - 1e4, sae.W_dec, sae.b_dec)
    assert len(probes.letters) == 5
    assert letter_absorption(rows, letters, dead, probes) == []


def test_rows_that_are_no_tokens_have_no_first_letters(make_store) -> None:
    store = make_store({"here": torch.randn(20, 3)})
    with pytest.raises(ValueError, match="first letters need rows that are tokens"):
        first_letters(store)
    assert np.isnan(summary([])["fraction"][0])
