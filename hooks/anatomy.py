"""Where the layers of a model are, and the checks that prove it. No table of names.

1. The model's own declarations and its structure give candidates for the stack of blocks.
2. One small forward pass records every tensor that passes between modules.
3. The residual stream is followed by its numbers: each site is where the arithmetic says it is.
4. What was found is checked, and the verdicts are kept beside it.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from layerscope.hooks.listening.passes import looking
from layerscope.hooks.places import AttentionTap, Difference, Place, Tap

if TYPE_CHECKING:
    from layerscope.hooks.locating.anatomy_finding import AnatomyFinding


__all__ = [
    "Anatomy",
    "AttentionTap",
    "Block",
    "Check",
    "Difference",
    "Place",
    "Tap",
    "anatomy",
    "as_call",
]


@dataclass(frozen=True)
class Check:
    """One thing that must hold by numbers."""

    name: str
    passed: bool | None
    """None: does not apply to this model, or was not run."""
    error: float | None
    """Relative error (root mean square over elements, worst block); None without a comparison."""
    detail: str


@dataclass(frozen=True)
class Block:
    """One block: where it is and what it is made of."""

    index: int
    path: str
    call: int
    """Which call of the module, for blocks that share one module."""
    kind: str
    """Sublayers in order: "attn + mlp" one after the other, "attn | mlp" in parallel, "mixer"."""
    attn: str | None
    mlp: str | None
    """The module whose result is the MLP's (its last matrix where the MLP is not one module)."""
    norms: tuple[str, ...]
    parallel: bool
    returns: str


@dataclass(frozen=True, repr=False)
class Anatomy:
    """The located structure of one model. Holds no reference to the model itself."""

    model: str
    """Class name and number of parameters."""
    blocks: tuple[Block, ...]
    embed: str | None
    norm: str | None
    unembed: str | None
    width: int | None
    sites: Mapping[str, Place]
    """Every named site of the model, in forward order."""
    shapes: Mapping[str, str]
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    encoder: tuple[Block, ...] = ()
    """Blocks of the encoder, for encoder-decoders; their sites begin with `encoder.`"""
    modules: tuple[str, ...] = ()
    """The first levels of the module tree, shown where no blocks were found."""

    @property
    def passed(self) -> bool:
        """Whether no check failed (checks that do not apply are ignored)."""
        return all(check.passed is not False for check in self.checks)

    def __str__(self) -> str:
        from layerscope.hooks.locating.anatomy_text import tree

        return tree(self)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from layerscope.hooks.locating.anatomy_text import html

        return html(self)

    def finding(self) -> AnatomyFinding:
        """The anatomy as a finding: a table of sites and checks, and a picture of one block."""
        from layerscope.hooks.locating.anatomy_finding import finding

        return finding(self)


_known: weakref.WeakKeyDictionary[nn.Module, tuple[int, Anatomy]] = weakref.WeakKeyDictionary()


def anatomy(model: nn.Module, *, example: Any = None) -> Anatomy:
    """Find embedding, blocks and their parts, final norm and unembedding, and check them.

    Leaves the model as it was: modes, hooks, gradients, random state. The answer is remembered
    for as long as the model lives and its modules stay the same.

    Args:
        model: any module. Models of transformers (also wrapped ones) need nothing else.
        example: one small batch for any other model: a tensor, a tuple of positional arguments or
            a dict of keyword arguments. Without it such a model is described by structure alone,
            and its checks say "not run".

    Raises:
        TypeError: `model` is not a module.
        Exception: whatever the model raises on a given `example`.
    """
    from layerscope.hooks.locating.reading import read_anatomy

    if not isinstance(model, nn.Module):
        raise TypeError(
            f"anatomy() reads a torch nn.Module, got {type(model).__name__}; load_model(name) makes "
            "one of a folder or a hub name"
        )
    signature = _signature(model)
    if example is None and model in _known and _known[model][0] == signature:
        return _known[model][1]
    with looking():
        found = read_anatomy(model, None if example is None else as_call(example))
    _known[model] = (signature, found)
    return found


def as_call(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch as the arguments of one model call."""
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    if isinstance(example, (tuple, list)):
        return tuple(example), {}
    raise TypeError(
        f"example must be a tensor, a tuple of positional or a dict of keyword arguments, "
        f"got {type(example).__name__}"
    )


def _signature(model: nn.Module) -> int:
    """Changes when a module is added, removed or replaced."""
    named = model.named_modules(remove_duplicate=False)
    return hash(tuple((path, id(module)) for path, module in named))
