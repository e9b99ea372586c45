"""Prompts and answers out of table files."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerscope.analyses.material.questions import read_questions


def test_jsonl_and_csv_say_the_same(tmp_path: Path) -> None:
    lines = tmp_path / "q.jsonl"
    lines.write_text(
        '{"prompt": "The city of Anna is", "answer": "Rome", "name": "Anna"}\n'
        '{"prompt": "Two and two is", "answer": ["4", "four"], "name": "two"}\n'
    )
    found = read_questions(lines)
    assert found.prompts == ["The city of Anna is", "Two and two is"]
    assert found.answers == ["Rome", ["4", "four"]]
    assert found.position("name") == ["Anna", "two"]
    assert found.position("-2") == -2
    table = tmp_path / "q.csv"
    table.write_text("question,gold,where\nTwo and two is,4.50,-2\n")
    other = read_questions(table, prompt="question", answer="gold")
    assert (other.prompts, other.answers) == (["Two and two is"], ["4.50"])
    assert other.position("where") == [-2]
    assert len(read_questions(lines, limit=1)) == 1


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"prompt": "a", "answr": "b"}\n')
    with pytest.raises(LookupError, match=r"no column 'answer'; did you mean 'answr'"):
        read_questions(file)
    file.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "a", "answer": ""}\n')
    with pytest.raises(ValueError, match=r"row 1 \(counting from 0\) has no 'answer'"):
        read_questions(file)
    file.write_text("")
    with pytest.raises(ValueError, match=r"q\.jsonl has no rows"):
        read_questions(file)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_questions(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match=r"read from \.jsonl"):
        read_questions(tmp_path / "q.txt")
    file.write_text('{"prompt": "a", "answer": "b"}\n')
    found = read_questions(file)
    with pytest.raises(LookupError, match="no column 'entity'"):
        found.position("entity")
