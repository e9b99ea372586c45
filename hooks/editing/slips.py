"""Slips in what is given as a change, told before the model runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from layerscope.hooks.editing.change import Change


def require_one_argument(function: Callable[..., Any], name: str) -> None:
    """Refuse what cannot be called with one tensor, as far as its signature is known.

    Args:
        function: What the user gave.
        name: What to call it in the error.

    Raises:
        TypeError: it takes none, or needs more; or it makes changes and was not called.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of torch's own functions it is not
        return
    if signature.return_annotation in (Change, Change.__name__):
        needed = any(x.default is x.empty for x in signature.parameters.values())
        raise TypeError(
            f"edits.{name} makes a change when it is called; call it: "
            f"edits.{name}({'...' * needed})"
        )
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(
            f"{name}{signature} cannot be called with the site's tensor alone; give a function "
            "of one argument, such as lambda x: 2 * x"
        ) from None
