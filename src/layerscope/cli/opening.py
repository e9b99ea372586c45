"""`--open`: a page that was just written, in the browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path


def open_page(page: str | Path) -> None:
    """Show the page in the user's browser; where there is none, stderr says which file to open."""
    path = Path(page).resolve()
    if not (_has_screen() and webbrowser.open(path.as_uri())):
        print(f"no browser found here; open {path} in one", file=sys.stderr)


def _has_screen() -> bool:
    """Without one, Python would start a browser of the terminal, such as lynx, over the output."""
    if not sys.platform.startswith("linux") or "BROWSER" in os.environ:
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"))
