"""Alignment with awkward tokenizers, trained here in memory, and with two real ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from layerscope.corpus import Words
from layerscope.corpus.alignment import token_word, word_tokens

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "  Two leading spaces,  two inside, and one behind. ",
    "She said \u201cdon't!\u201d \u2014 well-known U.S. prices: $3.50",
    "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m cafe\u0301 nai\u0308ve A\u030angstro\u0308m",
    "family \U0001f469\u200d\U0001f469\u200d\U0001f467 flag \U0001f1e9\U0001f1ea thumbs \U0001f44d\U0001f3fd end",
    "\u6211\u7231\u81ea\u7136\u8bed\u8a00\u5904\u7406\u3002\u6771\u4eac\u90fd \ud55c\uad6d\uc5b4",
    "tabs\tand\nline breaks\r\nand\u00a0a hard space",
    "\ufb01ne \u2460 \uff21\uff22 \u00bd",
]  # fmt: skip


def words_of(text: str) -> Words:
    """Runs of word characters, and every other visible character by itself."""
    spans = [match.span() for match in re.finditer(r"[\w\u0300-\u036f]+|[^\w\s]", text)]
    forms = tuple(text[start:end] for start, end in spans)
    start, end = zip(*spans, strict=True)
    return Words(start, end, {"word": forms})


def byte_level(*, add_prefix_space: bool, trim_offsets: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def across_words() -> Tokenizer:
    """No splitting before merging: pieces such as "e l" run over the space between words."""
    alphabet = ["<unk>", *sorted(set("".join(TEXTS)))]
    merges = [("e", " "), ("e ", "l"), ("y", " "), ("y ", "d"), ("t", "h"), ("o", " ")]
    vocab = {piece: at for at, piece in enumerate([*alphabet, *("".join(m) for m in merges)])}
    return Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>"))


def metaspace_unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    """As BERT: lower case, accents stripped, punctuation and CJK apart, [CLS] and [SEP]."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    pairs = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=pairs
    )
    return tokenizer


def byte_fallback() -> Tokenizer:
    """As Llama: a space becomes a mark, one more in front, unknown characters become bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    special: list[str | AddedToken] = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS[:3], trainer)
    return tokenizer


MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "byte level": lambda: byte_level(add_prefix_space=False, trim_offsets=False),
    "byte level, trimmed": lambda: byte_level(add_prefix_space=False, trim_offsets=True),
    "byte level, prefix space": lambda: byte_level(add_prefix_space=True, trim_offsets=False),
    "byte level, both": lambda: byte_level(add_prefix_space=True, trim_offsets=True),
    "across words": across_words,
    "unigram": metaspace_unigram,
    "word piece": word_piece,
    "byte fallback": byte_fallback,
}
DROPS = {"word piece", "unigram"}
"""These strip or compose accents, so a word may be covered in part, but never not at all."""


@pytest.fixture(scope="module", params=MAKERS)
def maker(request: pytest.FixtureRequest) -> tuple[str, Tokenizer]:
    return request.param, MAKERS[request.param]()


def covered(offsets: Any) -> set[int]:
    return {at for start, end in offsets for at in range(start, end)}


def check(text: str, offsets: list[tuple[int, int]], *, whole: bool = True) -> None:
    """Every kept character of a word lies in its tokens, whose text holds the word."""
    words = words_of(text)
    word, token = word_tokens(offsets, words)
    best = token_word(offsets, words)
    for index, (start, end) in enumerate(zip(words.start, words.end, strict=True)):
        mine = [offsets[t] for t in token[word == index]]
        kept = covered(offsets) & set(range(start, end))
        assert kept or not text[start:end].isalnum(), text[start:end]
        assert kept <= covered(mine), text[start:end]
        if whole:
            assert kept == set(range(start, end)), text[start:end]
            assert text[start:end] in text[min(a for a, _ in mine) : max(b for _, b in mine)]
        # A token's own word is among those it overlaps, and no other shares more.
        for t in np.flatnonzero(best == index):
            assert t in token[word == index]
    lonely = np.flatnonzero(best < 0)
    assert not set(lonely) & set(token.tolist())
    assert all(not text[a:b].strip() for a, b in (offsets[t] for t in lonely))


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12].strip())
def test_each_word_gets_all_its_characters(maker: tuple[str, Tokenizer], text: str) -> None:
    name, tokenizer = maker
    check(text, tokenizer.encode(text).offsets, whole=name not in DROPS)


def pieces(tokenizer: Tokenizer, text: str) -> dict[str, list[str]]:
    """Each word with the tokens it is read from."""
    encoding, words = tokenizer.encode(text), words_of(text)
    word, token = word_tokens(encoding.offsets, words)
    return {
        str(form): [encoding.tokens[t] for t in token[word == index]]
        for index, form in enumerate(words.labels["word"])
    }


def test_the_tokenizers_are_as_awkward_as_we_say() -> None:
    """Known pieces, so that the property above is not tested on tame tokens only."""
    spaced = pieces(MAKERS["byte level, prefix space"](), "the fox")
    assert spaced["the"][0].startswith("\u0120")
    emoji = pieces(MAKERS["byte level"](), "x \U0001f469\u200d\U0001f467")
    assert len(emoji["\U0001f469"]) >= 2
    joined = pieces(MAKERS["across words"](), "the lazy dog")
    assert joined["the"] == ["th", "e l"]
    assert joined["lazy"] == ["e l", "a", "z", "y d"]
    bert = MAKERS["word piece"]().encode("The fox")
    assert bert.tokens[0] == "[CLS]"
    assert token_word(bert.offsets, words_of("The fox"))[[0, -1]].tolist() == [-1, -1]
    assert "<0xE6>" in MAKERS["byte fallback"]().encode("\u6771").tokens


REAL = ["stories260K/hf", "gpt2_books_steps/step256"]


@pytest.mark.parametrize("folder", REAL)
def test_real_tokenizers(shared_data: Path, folder: str) -> None:
    tokenizer = Tokenizer.from_file(str(shared_data / folder / "tokenizer.json"))
    for text in TEXTS:
        check(text, tokenizer.encode(text).offsets)


@pytest.mark.parametrize("folder", REAL)
def test_every_gold_word_of_the_treebank_gets_its_tokens(shared_data: Path, folder: str) -> None:
    from layerscope.corpus import read

    tokenizer = Tokenizer.from_file(str(shared_data / folder / "tokenizer.json"))
    for text in read(shared_data / "ud_english_ewt" / "en_ewt-ud-dev.conllu").take(400):
        assert text.words is not None
        offsets = np.array(tokenizer.encode(text.content).offsets)
        word, token = word_tokens(offsets, text.words)
        assert np.unique(word).tolist() == list(range(len(text.words)))
        assert (offsets[token, 1] > np.array(text.words.start)[word]).all()
        assert (offsets[token, 0] < np.array(text.words.end)[word]).all()
