"""docs/edits.md is true: its code runs, and what its comments say is what comes out."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Size

PAGE = Path(__file__).resolve().parents[2] / "docs" / "edits.md"


def test_the_page_runs_and_its_comments_hold() -> None:
    names: dict[str, object] = {}
    checked = 0
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(code, names)  # noqa: S102
        for line in code.splitlines():
            said = re.fullmatch(r"(\w\S*.*?)\s+# (\[[\d, ]+\]|True|0\.0|\(\))(:.*)?", line)
            if said and "=" not in said[1] and not said[1].startswith("print"):
                got = eval(said[1], names)
                assert str(list(got) if isinstance(got, Size) else got) == said[2], line
                checked += 1
    assert checked == 5
