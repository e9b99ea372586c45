"""Plain text: what one text is."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerscope.corpus import read

BOOK = "One line\nof a paragraph.\n\nAnother\none,\nof three lines.\n\n\nThe\nlast.\n"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(BOOK)
    return path


def contents(path: Path, **how: str) -> list[str]:
    return [text.content for text in read(path, **how)]


def test_a_text_is_a_line_a_paragraph_or_the_file(book: Path) -> None:
    paragraphs = ["One line\nof a paragraph.", "Another\none,\nof three lines.", "The\nlast."]
    assert contents(book) == [line for line in BOOK.split("\n") if line]
    assert contents(book, text="line") == contents(book)
    assert contents(book, text="paragraph") == paragraphs
    assert contents(book, text="document") == [BOOK.strip("\n")]


def test_ids_and_groups_count_texts(book: Path) -> None:
    texts = list(read(book, text="paragraph"))
    assert [text.id for text in texts] == [text.group for text in texts] == ["0", "1", "2"]


def test_lines_that_look_like_broken_paragraphs_are_remarked(book: Path, tmp_path: Path) -> None:
    assert "text='paragraph'" in read(book).notes[0]
    assert read(book, text="line").notes == ()
    single = tmp_path / "single.txt"
    single.write_text("one\ntwo\n\nthree\nfour\n")
    assert read(single).notes == ()


def test_line_ends_and_byte_order_mark_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert contents(path) == ["one", "two"]


def test_leading_spaces_are_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("  indented \nplain")
    assert contents(path) == ["  indented ", "plain"]


def test_a_line_may_be_long(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("word " * 400_000)
    (text,) = read(path)
    assert len(text.content) == 2_000_000


def test_bad_utf8_is_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("fine\nals\u00f6\n".encode() + "naïve\n".encode("latin1"))
    with pytest.raises(ValueError, match=r"a\.txt, line 3: byte 0xef at column 3 is not UTF-8"):
        len(read(path))


def test_what_a_plain_file_has_not(book: Path) -> None:
    with pytest.raises(ValueError, match="one of line, paragraph, document, not 'page'"):
        read(book, text="page")
    with pytest.raises(ValueError, match=r"group='author': a \.txt file has no columns"):
        read(book, group="author")
    with pytest.raises(ValueError, match="no label 'mood' in 'book'; there are: none"):
        read(book, label="mood")
