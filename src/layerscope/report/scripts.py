"""The page's scripts: plotly, packed, and our own; each has a hash, without which nothing runs."""

from __future__ import annotations

import base64
import gzip
import hashlib
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
PARTS = ("dress", "tables", "search", "layers", "models", "paper", "draw")
"""Our own script, file by file, in the order in which they run; later ones use the earlier."""


@cache
def plotly() -> tuple[str, str]:
    """Plotly's library, compressed and in base64, and the hash of what it unpacks to.

    Packed it takes 2.0 MB instead of 4.8, and the page opens as fast: reading less makes up for
    unpacking more (benchmarks/report_opening.py).
    """
    from plotly.offline import get_plotlyjs

    source = get_plotlyjs()
    # A fixed time and the same level: the same findings give the same bytes.
    packed = gzip.compress(source.encode(), compresslevel=6, mtime=0)
    return base64.b64encode(packed).decode(), hash_of(source)


def own() -> str:
    """All parts as one script; what they name is seen by each other and by nothing else."""
    parts = "\n".join((HERE / f"{name}.js").read_text("utf-8") for name in PARTS)
    return f'"use strict";\n(async () => {{\n{parts}}})();\n'


def hash_of(script: str) -> str:
    """As a content security policy names an inline script."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
