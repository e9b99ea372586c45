"""Python files: functions as texts, tokens as words, the syntax tree in their labels."""

from __future__ import annotations

import ast
import gzip
import heapq
import json.decoder
import textwrap
import typing
from pathlib import Path
from types import ModuleType

import pytest

from layerscope.corpus import read
from layerscope.corpus.python_source import read_python, without_comments
from layerscope.corpus.python_tree import parse, tokens_of
from layerscope.corpus.text import Text
from layerscope.corpus.tree_tuples import Node, TreeTuple, constituents, decode, encode

CODE = '''\
"""Module."""
import os


@decorated(1)
async def first(a, *, b=2):  # why
    """What it does."""
    # how
    return f"{a} é {b!r}" + "x"


class Box:
    def get(self):
        """Only words."""

    def put(self, value):
        """With "quotes" inside."""; return value


def second(): return {1: [x for x in y if x]}
'''


def tree(text: Text) -> Node:
    assert text.words is not None
    columns = (text.words.labels[name] for name in ("tree_height", "tree_label", "tree_unary"))
    heights, labels, unary = columns
    found = decode(TreeTuple(heights[1:], labels[1:], unary))  # type: ignore[arg-type]
    assert isinstance(found, Node)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "code.py"
    path.write_text(CODE, encoding="utf-8")
    return path


def test_functions_are_texts(file: Path) -> None:
    texts = list(read(str(file)))
    assert [text.id for text in texts] == ["first:6", "Box.get:13", "Box.put:16", "second:20"]
    assert [text.group for text in texts] == ["first", "Box", "Box", "second"]
    assert texts[0].content == (
        '@decorated(1)\nasync def first(a, *, b=2):\n    return f"{a} é {b!r}" + "x"'
    )
    assert texts[1].content == "def get(self):\n    pass"
    assert texts[2].content == "def put(self, value):\n    return value"


def test_words_are_tokens_in_their_places(file: Path) -> None:
    text = next(iter(read(str(file))))
    assert text.words is not None
    spans = zip(text.words.start, text.words.end, strict=True)
    forms = tuple(text.content[a:b] for a, b in spans)
    assert forms == text.words.labels["word"]
    assert forms[-3:] == ('f"{a} é {b!r}"', "+", '"x"')  # an f-string is one token
    assert text.words.labels["token_type"][:3] == ("OP", "NAME", "OP")
    assert "KEYWORD" in text.words.labels["token_type"]
    assert max(text.words.end) == len(text.content)


def test_the_tree_is_that_of_ast(file: Path) -> None:
    text = list(read(str(file)))[3]
    found = sorted(constituents(tree(text)))
    assert text.words is not None
    forms = text.words.labels["word"]
    said = {(label, " ".join(map(str, forms[a : b + 1]))) for label, a, b in found}
    assert ("FunctionDef", "def second ( ) : return { 1 : [ x for x in y if x ] }") in said
    assert ("Dict", "{ 1 : [ x for x in y if x ] }") in said
    assert ("ListComp", "[ x for x in y if x ]") in said
    assert ("comprehension", "x in y if x") in said
    assert ("Constant", "1") in said


@pytest.mark.parametrize("module", [textwrap, heapq, json.decoder, typing, ast])
def test_the_standard_library_round_trips(module: ModuleType) -> None:
    """Trees of every function come back, and have the nodes that `ast` counts."""
    assert module.__file__
    count = 0
    for text in read_python(Path(module.__file__)):
        parsed = parse(text.content)
        assert decode(encode(parsed.tree)) == parsed.tree
        assert tree(text) == parsed.tree
        placed = [
            node
            for node in _below_strings(ast.parse(text.content).body[0])
            if hasattr(node, "end_lineno")
        ]
        without_place = ("arguments", "comprehension", "withitem", "match_case")
        labels = [label for label, _, _ in constituents(parsed.tree)]
        assert len([label for label in labels if label not in without_place]) == len(placed)
        count += 1
    assert count >= 8


def _below_strings(node: ast.AST) -> list[ast.AST]:
    inner = [] if isinstance(node, ast.JoinedStr) else list(ast.iter_child_nodes(node))
    return [node, *(below for child in inner for below in _below_strings(child))]


def test_offsets_count_characters_not_bytes() -> None:
    parsed = parse('def f():\n    return "éé" + ñ(x)')
    assert ("Call", 8, 11) in set(constituents(parsed.tree))


def test_without_comments_keeps_strings_with_hashes() -> None:
    code = 'def f(x):\n    s = "# no"  # yes\n\n    return s'
    assert without_comments(code) == 'def f(x):\n    s = "# no"\n\n    return s'
    tokens = list(tokens_of("def f(): 'a'\n"))
    assert [token.type for token in tokens] == ["KEYWORD", "NAME", "OP", "OP", "OP", "STRING"]


def test_a_folder_groups_by_file(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("def f(): return 1\nclass A:\n    def g(self): return 2\n")
    assert [text.group for text in read(tmp_path)] == ["a.py", "a.py", "b.py", "b.py"]
    groups = [text.group for text in read(tmp_path, group="definition")]
    assert groups == ["a.py:f", "a.py:A", "b.py:f", "b.py:A"]


def test_data_beside_code_is_the_data(tmp_path: Path) -> None:
    (tmp_path / "make.py").write_text("def f(): return 1\n")
    (tmp_path / "texts.txt").write_text("one line\n")
    assert [text.content for text in read(tmp_path)] == ["one line"]


def test_gzip_and_declared_encodings(tmp_path: Path) -> None:
    code = "# -*- coding: latin-1 -*-\ndef f(): return 'é'\n".encode("latin-1")
    (tmp_path / "old.py.gz").write_bytes(gzip.compress(code))
    (text,) = read(tmp_path / "old.py.gz")
    assert text.content == "def f(): return 'é'"


def test_refused(tmp_path: Path, file: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("def f():\n  return (\n")
    with pytest.raises(ValueError, match=r"broken\.py, line 2: not code that this version"):
        read(broken)
    with pytest.raises(ValueError, match="group for Python is one of file, definition"):
        read(file, group="line")
    with pytest.raises(ValueError, match="the texts of a Python file are its functions"):
        read(file, text="line")
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    with pytest.raises(ValueError, match="'empty' holds no text"):
        read(empty)
