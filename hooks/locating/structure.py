"""What can be said of a model without running it: its title, its declared ends, its stack."""

from __future__ import annotations

from torch import nn

from layerscope.hooks.anatomy import Anatomy, Block, Check
from layerscope.hooks.locating import checks
from layerscope.hooks.locating.stacks import (
    Stack,
    declarer,
    encoder_stacks,
    note_of_others,
    path_in,
    stacks,
)
from layerscope.hooks.places import Place, Tap


def title(model: nn.Module) -> str:
    """Class name, where it was loaded from if it says so, and number of parameters."""
    name = getattr(model, "name_or_path", "")
    source = f" at {name}" if name else ""
    count = sum(parameter.numel() for parameter in model.parameters())
    return f"{type(model).__name__}{source}, {count:,} parameters"


def from_structure(model: nn.Module, why: str) -> Anatomy:
    """What declarations and structure say, with nothing run; every check says `why`."""
    main, encoder = (next(iter(found), None) for found in (stacks(model), encoder_stacks(model)))
    sites: dict[str, Place] = {}
    coded, blocks = _unread(encoder, "encoder.blocks", sites), _unread(main, "blocks", sites)
    paths = (path for path, _ in model.named_modules() if path)
    return Anatomy(
        model=title(model),
        blocks=blocks,
        embed=declared_path(model, "get_input_embeddings"),
        norm=None,
        unembed=declared_path(model, "get_output_embeddings"),
        width=None,
        sites=sites,
        shapes={},
        checks=tuple(Check(name, None, None, why) for name in checks.NAMES),
        notes=(
            "located by structure alone; nothing was run",
            *(note_of_others(model, main) if main is not None else ()),
        ),
        encoder=coded,
        modules=tuple(path for path in paths if path.count(".") < 2),
    )


def _unread(stack: Stack | None, name: str, sites: dict[str, Place]) -> tuple[Block, ...]:
    blocks = []
    for i, path in enumerate(stack.paths if stack else ()):
        sites[f"{name}.{i}.resid_pre"] = Tap(path, "in")
        sites[f"{name}.{i}.resid_post"] = Tap(path)
        blocks.append(Block(i, path, 0, "", None, None, (), False, "not run"))
    return tuple(blocks)


def declared_module(model: nn.Module, getter: str) -> nn.Module | None:
    """What the model answers to `get_input_embeddings()` and the like; None if it declares none."""
    ask = getattr(declarer(model), getter, None)
    if ask is None:
        return None
    try:
        found = ask()
    except (NotImplementedError, AttributeError):  # declared, but not for this kind of model
        return None
    return found if isinstance(found, nn.Module) else None


def declared_path(model: nn.Module, getter: str) -> str | None:
    """The path of `declared_module`."""
    return path_in(model, declared_module(model, getter)) or None
