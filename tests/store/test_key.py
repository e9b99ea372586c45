"""The key moves with everything the numbers depend on, and says what differs."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import pytest

from layerscope.store import differences, key_of

PARTS: dict[str, Any] = {
    "model": {"class": "M", "tensors": {"w": "float32 2x2 0123"}},
    "tokenizer": {"rules": "ab"},
    "corpus": "cd",
    "sites": ["blocks.0.resid_post"],
    "rows": "tokens",
    "dtype": "float32",
}


def test_the_key_is_32_hex_digits_and_the_same_everywhere() -> None:
    """A literal: a key that drifts makes every cache on every disk worthless."""
    assert key_of(PARTS) == "f9b93383828666123d41e953421f7978"


def test_the_order_of_the_parts_does_not_matter() -> None:
    assert key_of(dict(reversed(PARTS.items()))) == key_of(PARTS)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("model", {"class": "M", "tensors": {"w": "float32 2x2 0124"}}),
        ("tokenizer", {"rules": "ac"}),
        ("corpus", "ce"),
        ("sites", ["blocks.0.resid_post", "blocks.1.resid_post"]),
        ("rows", "words"),
        ("dtype", "bfloat16"),
        ("new", None),
    ],
)
def test_every_part_moves_the_key(part: str, value: Any) -> None:
    assert key_of(PARTS | {part: value}) != key_of(PARTS)


def test_the_format_moves_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(PARTS)
    monkeypatch.setattr("layerscope.store.key.FORMAT", 2)
    assert key_of(PARTS) != before


def test_parts_survive_json() -> None:
    assert key_of(json.loads(json.dumps(PARTS))) == key_of(PARTS)


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        key_of({"model": object()})


def test_differences_name_the_path_and_both_values() -> None:
    other = copy.deepcopy(PARTS) | {"rows": "words", "extra": 1}
    other["model"]["tensors"]["w"] = "float32 2x2 ffff"
    del other["corpus"]
    assert differences(PARTS, other) == [
        "model.tensors.w: float32 2x2 0123 here, float32 2x2 ffff asked",
        "corpus: cd here, absent asked",
        "rows: tokens here, words asked",
        "extra: absent here, 1 asked",
    ]
    assert differences(PARTS, copy.deepcopy(PARTS)) == []


def test_many_and_long_differences_are_cut() -> None:
    lines = differences({str(i): i for i in range(30)}, {str(i): "x" * 500 for i in range(30)})
    assert len(lines) == 9
    assert lines[-1] == "and 22 more"
    assert max(map(len, lines)) < 90


def test_importing_the_store_package_is_light() -> None:
    code = (
        "import sys, layerscope.store; print({'torch', 'pandas', 'pyarrow'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
