"""Python files: each function a text, its tokens the words, its syntax tree in their labels."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

from layerscope.corpus.files import open_bytes
from layerscope.corpus.python_tree import Parsed, offsets, parse
from layerscope.corpus.text import Text, Value, Words
from layerscope.corpus.tree_tuples import Node, encode

GROUPS = ("file", "definition")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def read_python(path: Path, *, group: str | None = None, prefix: str = "") -> Iterator[Text]:
    """The functions and methods of a file, in order, without comments and docstrings.

    A function inside another one stays part of it.

    Args:
        path: A .py or .py.gz file, in the encoding that it declares.
        group: ``"file"``, or ``"definition"``: the function or class at the top level of the file. By
            default the file where there are several.
        prefix: Put before ids and groups.

    Raises:
        ValueError: the file is not Python, with the line.
    """
    if group not in (None, *GROUPS):
        raise ValueError(f"group for Python is one of {', '.join(GROUPS)}, not {group!r}")
    source = _decoded(path)
    by_file = group == "file" or (group is None and bool(prefix))
    try:
        module = ast.parse(source)
        lines = source.split("\n")
        for definition in module.body:
            for name, function in _functions(definition, ""):
                owner = prefix.removesuffix(":") or path.stem
                if not by_file:
                    owner = prefix + name.split(".")[0]
                content = without_comments(_segment(function, lines))
                yield Text(
                    content,
                    f"{prefix}{name}:{function.lineno}",
                    owner,
                    {},
                    _words(content, parse(content)),
                )
    except (SyntaxError, tokenize.TokenError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ValueError(
            f"{path}{line}: not code that this version of Python can read: {error}"
        ) from None


def _decoded(path: Path) -> str:
    with open_bytes(path) as file:
        data = file.read()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return io.TextIOWrapper(io.BytesIO(data), encoding).read()
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _functions(node: ast.stmt, outer: str) -> Iterator[tuple[str, Function]]:
    if isinstance(node, Function):
        yield outer + node.name, node
    elif isinstance(node, ast.ClassDef):
        for inner in node.body:
            yield from _functions(inner, f"{outer}{node.name}.")


def _segment(function: Function, lines: list[str]) -> str:
    """The lines of a function, moved to the left margin."""
    first = min(part.lineno for part in (function, *function.decorator_list))
    own = lines[first - 1 : function.end_lineno]
    assert function.end_col_offset is not None
    own[-1] = own[-1].encode()[: function.end_col_offset].decode()
    margin = len(own[0]) - len(own[0].lstrip())
    # Only a string or a continued line can begin further left; it stays as it is.
    return "\n".join(line[margin:] if not line[:margin].strip() else line for line in own)


def without_comments(code: str) -> str:
    """The code without comments and docstrings; a body that was only a docstring becomes ``pass``.

    >>> without_comments("def f(x):  # why\\n    'What.'\\n    # how\\n    return x")
    'def f(x):\\n    return x'
    """
    offset = offsets(code)
    cuts = [
        (offset[found.start[0] - 1] + found.start[1], offset[found.end[0] - 1] + found.end[1], "")
        for found in tokenize.generate_tokens(io.StringIO(code).readline)
        if found.type == tokenize.COMMENT
    ]
    cuts += _docstrings(code)
    for start, end, put in sorted(cuts, reverse=True):
        code = _cut(code, start, end, put)
    return code.rstrip()


def _docstrings(code: str) -> Iterator[tuple[int, int, str]]:
    """First character and end of each docstring, and what is to stand there."""
    lines, offset = code.split("\n"), offsets(code)

    def at(line: int, column: int) -> int:
        return offset[line - 1] + len(lines[line - 1].encode()[:column].decode())

    for node in ast.walk(ast.parse(code)):
        if isinstance(node, Function | ast.ClassDef) and ast.get_docstring(node) is not None:
            first = node.body[0]
            start = at(first.lineno, first.col_offset)
            end = at(first.end_lineno or 0, first.end_col_offset or 0)
            yield start, end, "pass" if len(node.body) == 1 else ""


def _cut(code: str, start: int, end: int, put: str) -> str:
    """Take a piece out; a line that held nothing else goes with it."""
    begin = code.rfind("\n", 0, start) + 1
    stop = code.find("\n", end)
    stop = len(code) if stop < 0 else stop
    if not put and not code[begin:start].strip() and not code[end:stop].strip():
        return code[:begin] + code[stop + 1 :]
    if not put and code[end:stop].lstrip().startswith(";"):
        end = code.index(";", end) + 1
        end += len(code[end:stop]) - len(code[end:stop].lstrip())
    kept = code[:start] if put or code[end:stop].strip() else code[:start].rstrip(" \t")
    return kept + put + code[end:]


def _words(content: str, parsed: Parsed) -> Words:
    coded = encode(parsed.tree)
    depth, holder = _above(parsed)
    labels: dict[str, tuple[Value, ...]] = {
        "word": tuple(content[token.start : token.end] for token in parsed.tokens),
        "token_type": tuple(token.type for token in parsed.tokens),
        "node": tuple(holder),
        "depth": tuple(depth),
        "tree_height": (None, *coded.heights),
        "tree_label": (None, *coded.labels),
        "tree_unary": coded.unary,
    }
    starts = tuple(token.start for token in parsed.tokens)
    return Words(starts, tuple(token.end for token in parsed.tokens), labels)


def _above(parsed: Parsed) -> tuple[list[int], list[str]]:
    """Nodes above each token, and the label of the lowest."""
    depth, holder = [0] * len(parsed.tokens), [""] * len(parsed.tokens)
    waiting = [(parsed.tree, 0, "")]
    while waiting:
        node, above, label = waiting.pop()
        if isinstance(node, Node):
            waiting += [(child, above + 1, node.label) for child in node.children]
        else:
            depth[node], holder[node] = above, label
    return depth, holder
