"""Findings -> one HTML file that works anywhere, offline."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from layerscope.report.folders import collect as collect
from layerscope.report.report import report as report
from layerscope.report.report import to_html as to_html

__all__ = ["collect", "report", "to_html"]


class _CallablePackage(ModuleType):
    """`layerscope.report` is this package and, once imported, also hides the function's name.

    Importing a package binds it on its parent, so `layerscope.report(findings, path)` reaches
    the module; calling it means calling the function.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return report(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
