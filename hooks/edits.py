"""`with edit(model, {site: change}):` writes into a model while it runs.

The functions that make changes are here too: ``set_to add scale zero mean resample project_out swap
skip cut change``. What they do is in `changes` and `cutting`; where, in `change` and `positions`;
how they are attached, in `writing`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from layerscope.hooks.attending.cutting import cut
from layerscope.hooks.editing.change import Change
from layerscope.hooks.editing.changes import (
    add,
    as_changes,
    change,
    mean,
    project_out,
    resample,
    scale,
    set_to,
    skip,
    swap,
    zero,
)
from layerscope.hooks.editing.positions import Positions
from layerscope.hooks.editing.writing import Writer, running
from layerscope.hooks.sites import resolve

__all__ = [
    "Change",
    "Edit",
    "Positions",
    "Writer",
    "active",
    "add",
    "as_changes",
    "change",
    "cut",
    "edit",
    "mean",
    "project_out",
    "resample",
    "scale",
    "set_to",
    "skip",
    "swap",
    "zero",
]

Given = Change | Callable[[Tensor], Tensor] | Sequence[Change | Callable[[Tensor], Tensor]]
Changes = Mapping[str, Given] | Mapping[int, Given] | Mapping[int | str, Given]


class Edit:
    """What is changed while the block runs."""

    def __init__(self, writer: Writer) -> None:
        self._title = type(writer.model).__name__
        self._notes = writer.notes.texts
        self.changes = {site: tuple(some) for site, some in writer.changes.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know about this run, such as attention that was computed another way."""
        return tuple(self._notes)

    def __repr__(self) -> str:
        lines = (f"  {site}: {one!r}" for site, some in self.changes.items() for one in some)
        return "\n".join([f"Edit of {self._title}", *lines])


@contextmanager
def edit(model: nn.Module, changes: Changes) -> Iterator[Edit]:
    """Write into sites in every forward pass inside the block.

    Examples:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
        >>> with edit(model, {"1": set_to(7.0)}):
        ...     model(torch.ones(1, 3))
        tensor([[7., 7., 7., 7.]])

    Args:
        model: Any module; no hook, mode or flag is left on it, however the block ends.
        changes: Site (or int, pattern, module path) -> a change, a function of the site's tensor,
            or several in order. Positions are absolute, also while `generate` uses a cache;
            negative ones count from the end of the prompt.

    Raises:
        IndexError: a row, head or position that is not there. A change that was never made, for no
            pass had its positions, is reported when the block ends; one that was made at some of
            them only is a warning, and a note.
        LookupError: a site that the model does not have, or one that no forward pass reached.
        TypeError: something that is not a change, or arguments in another order.
        ValueError: a change that its site cannot have, values that do not fit, NaN.
    """
    _check_arguments(model, changes)
    found: dict[str, list[Change]] = {}
    for asked, given in changes.items():
        some = as_changes(given)
        for site in resolve(model, asked):
            found.setdefault(site, []).extend(some)
    if not any(found.values()):
        raise ValueError(
            "nothing to change; give for instance {'blocks.3.resid_post': edits.zero()}"
        )
    writer = Writer(model, found)
    with writer.writing():
        yield Edit(writer)
    missed = writer.unreached()
    if missed:
        reached = ", ".join(writer.reached) or "none"
        raise LookupError(
            f"no forward pass of {type(model).__name__} reached {'; '.join(missed)}. "
            f"Reached: {reached}"
        )
    untouched = writer.untouched()
    if untouched:
        raise IndexError(
            f"never made, for no pass had its rows and positions: {'; '.join(untouched)}"
        )
    for one in writer.unfinished():
        text = f"made only at those of its positions that the passes had: {one}"
        writer.notes.add(text)
        warnings.warn(text, stacklevel=3)  # where the with block ends


def _check_arguments(model: object, changes: object) -> None:
    if not isinstance(model, nn.Module):
        turned = "; the model comes first" if isinstance(changes, nn.Module) else ""
        raise TypeError(
            f"edit(model, changes) takes a torch module, got {type(model).__name__}"
            + (turned or "; load_model(name) makes one of a folder or a hub name")
        )
    if not isinstance(changes, Mapping):
        raise TypeError(
            "changes say where and what, as a mapping such as {'blocks.3.resid_post': "
            f"edits.zero()}}; got {type(changes).__name__}"
        )


def active(model: nn.Module) -> tuple[str, ...]:
    """The changes that are being made to `model` now, one description each; () if there are none."""
    return tuple(
        f"{site}: {one!r}"
        for writer in running
        if writer.active_on(model)
        for site, some in writer.changes.items()
        for one in some
    )
