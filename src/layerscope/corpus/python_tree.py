"""The syntax tree of Python code over its tokens, by the standard `ast` and `tokenize`.

Nodes and tokens are matched by line and column. Nodes without a position (arguments,
comprehensions) span what they hold; operators and contexts, which have neither position nor parts,
are the tokens themselves. An f-string is one token, whatever the version of Python.
"""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from layerscope.corpus.tree_tuples import Node, Tree

_LAYOUT = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.COMMENT,
    tokenize.ENDMARKER,
}
_OPENING = {getattr(tokenize, name, -2) for name in ("FSTRING_START", "TSTRING_START")}
_CLOSING = {getattr(tokenize, name, -2) for name in ("FSTRING_END", "TSTRING_END")}
_STRINGS = tuple(getattr(ast, name) for name in ("JoinedStr", "TemplateStr") if hasattr(ast, name))


@dataclass(frozen=True)
class Token:
    """A token that is no layout."""

    start: int
    """First character in the code."""
    end: int
    """One past the last."""
    type: str
    """``NAME``, ``KEYWORD``, ``OP``, ``NUMBER`` or ``STRING``."""


@dataclass(frozen=True)
class Parsed:
    """Code as tokens and the tree over them."""

    tokens: tuple[Token, ...]
    tree: Tree


def parse(code: str) -> Parsed:
    """One statement, such as a function, with its tokens.

    Raises:
        SyntaxError: it is not Python.
        ValueError: it is not exactly one statement.
    """
    body = ast.parse(code).body
    if len(body) != 1:
        raise ValueError(f"one statement has one tree; there are {len(body)}")
    tokens = tuple(tokens_of(code))
    return Parsed(tokens, _tree(body[0], code, tokens))


def tokens_of(code: str) -> Iterator[Token]:
    """The tokens of the code without its layout and comments."""
    offset = offsets(code)
    depth = begin = 0
    for found in tokenize.generate_tokens(io.StringIO(code).readline):
        start, end = (offset[line - 1] + column for line, column in (found.start, found.end))
        if found.type in _OPENING:
            begin = begin if depth else start
            depth += 1
        elif found.type in _CLOSING:
            depth -= 1
            if not depth:
                yield Token(begin, end, "STRING")
        elif not depth and found.type not in _LAYOUT and end > start:
            word = found.type == tokenize.NAME and keyword.iskeyword(found.string)
            yield Token(start, end, "KEYWORD" if word else tokenize.tok_name[found.type])


def offsets(code: str) -> list[int]:
    """Where each line begins, in characters."""
    found = [0]
    for line in code.split("\n"):
        found.append(found[-1] + len(line) + 1)
    return found


@dataclass(frozen=True)
class _Place:
    """From lines and columns of `ast`, which count bytes, to tokens."""

    lines: list[str]
    offset: list[int]
    starts: list[int]
    ends: list[int]

    def span(self, node: ast.AST) -> tuple[int, int] | None:
        """First and last token of a node that has a position."""
        if not isinstance(getattr(node, "end_lineno", None), int):
            return None
        first = bisect_left(self.starts, self._at(node.lineno, node.col_offset))  # type: ignore[attr-defined]
        last = bisect_left(self.ends, self._at(node.end_lineno, node.end_col_offset))  # type: ignore[attr-defined]
        return (first, last) if first <= last < len(self.ends) else None

    def _at(self, line: int, column: int) -> int:
        text = self.lines[line - 1]
        if not text.isascii():
            column = len(text.encode()[:column].decode())
        return self.offset[line - 1] + column


def _tree(root: ast.AST, code: str, tokens: tuple[Token, ...]) -> Tree:
    place = _Place(
        code.split("\n"), offsets(code), [t.start for t in tokens], [t.end for t in tokens]
    )
    found: list[tuple[int, int, int, str]] = []
    _spans(root, place, found)
    # Outer nodes first; of equal spans the one that was visited first, which is the parent.
    found.sort(key=lambda entry: (entry[0], -entry[1], entry[2]))
    return _nest(found, len(tokens))


def _spans(
    node: ast.AST, place: _Place, found: list[tuple[int, int, int, str]]
) -> tuple[int, int] | None:
    """Add (first token, last token, order, label) of a node and of all below it."""
    order = len(found)
    found.append((0, -1, order, ""))
    parts = [] if isinstance(node, _STRINGS) else list(ast.iter_child_nodes(node))
    below = [span for part in parts if (span := _spans(part, place, found))]
    own = place.span(node)
    hull = [*below, *([own] if own else [])]
    if not hull:
        del found[order:]
        return None
    first, last = min(span[0] for span in hull), max(span[1] for span in hull)
    if getattr(node, "decorator_list", None):
        first -= 1  # the @ before the first decorator
    found[order] = (first, last, order, type(node).__name__)
    return first, last


def _nest(found: list[tuple[int, int, int, str]], tokens: int) -> Tree:
    """Spans, outer ones first, as a tree in which every token is a leaf.

    Raises:
        ValueError: two spans cross, or they leave tokens out.
    """
    if not found or found[0][:2] != (0, tokens - 1):
        raise ValueError("the statement does not cover all of its tokens")
    open_: list[tuple[int, str, list[Tree]]] = []
    at = 0
    last_tree: Tree = 0

    def close() -> None:
        nonlocal at, last_tree
        end, label, children = open_.pop()
        children += range(at, end + 1)
        at = end + 1
        last_tree = Node(label, tuple(children))
        if open_:
            open_[-1][2].append(last_tree)

    for first, last, _, label in found:
        while open_ and open_[-1][0] < first:
            close()
        if open_:
            if last > open_[-1][0]:
                raise ValueError(f"a {label} crosses the end of a {open_[-1][1]}")
            open_[-1][2].extend(range(at, first))
            at = first
        open_.append((last, label, []))
    while open_:
        close()
    return last_tree
