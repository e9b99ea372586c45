"""`with bypassed(model, parts):` blocks, attentions and MLPs that do not run at all.

An edit lets a part run and then undoes what it added, which is exact but saves nothing. Here the
part's `forward` is replaced while the block lasts: a block hands its input on, a sublayer adds zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from layerscope.hooks.anatomy import Anatomy, anatomy
from layerscope.hooks.listening.watch import argument
from layerscope.hooks.places import Tap, module_at, pick, pick_input, put
from layerscope.hooks.quiet import undisturbed

Part = tuple[str, int]
"""``("block", 3)``, ``("attention", 3)`` or ``("mlp", 3)``."""
Call = Callable[[], object]


@contextmanager
def bypassed(model: nn.Module, parts: Iterable[Part], call: Call) -> Iterator[None]:
    """Inside, the model runs without these parts; their norms still run.

    Right for sublayers whose module returns what is added to the stream, or what a norm without bias
    makes of it; not where the module adds the stream itself, as in BERT. Compare with an edit where
    in doubt. Run it without a cache: an attention that does not run leaves no keys and values
    there, and a cache counts its positions by those of its layers.

    Args:
        model: Any model with blocks.
        parts: What is left out.
        call: Runs the model once on an input of the kind that will be used, to see what the parts
            return.

    Raises:
        LookupError: a part that the model does not have as a module of its own, also because
            several blocks share it.
    """
    found = anatomy(model)
    paths = {part: _path(found, part) for part in dict.fromkeys(parts)}
    forms = _returned(model, set(paths.values()), call)
    with ExitStack() as undo:
        for part, path in paths.items():
            module = module_at(model, path)
            undo.callback(_restore, module, module.__dict__.get("forward"))
            module.forward = _instead(found, part, module, forms[path])
        yield


def _path(found: Anatomy, part: Part) -> str:
    kind, index = part
    if not 0 <= index < len(found.blocks):
        raise LookupError(
            f"{kind} {index} asked; the model has blocks 0 to {len(found.blocks) - 1}"
        )
    paths = [{"block": b.path, "attention": b.attn, "mlp": b.mlp}[kind] for b in found.blocks]
    path = paths[index]
    if not path:
        raise LookupError(f"block {index} has no {kind} that is a module of its own")
    sharing = [i for i, other in enumerate(paths) if other == path]
    if len(sharing) > 1:
        raise LookupError(
            f"blocks {', '.join(map(str, sharing))} share one module, {path!r}, so the {kind} of "
            f"block {index} alone cannot be left out; use an edit with skip()"
        )
    return path


def _returned(model: nn.Module, paths: Iterable[str], call: Call) -> dict[str, Any]:
    """What each module returns."""
    seen: dict[str, Any] = {}
    with ExitStack() as stack:
        stack.enter_context(undisturbed(model))
        for path in paths:
            keep = _keep(seen, path)
            stack.callback(module_at(model, path).register_forward_hook(keep).remove)
        call()
    return seen


def _keep(seen: dict[str, Any], path: str) -> Callable[..., None]:
    def returned(module: nn.Module, args: Any, output: Any) -> None:
        seen[path] = output

    return returned


def _restore(module: nn.Module, own: Any) -> None:
    if own is None:
        module.__dict__.pop("forward", None)
    else:
        module.forward = own


def _instead(found: Anatomy, part: Part, module: nn.Module, form: Any) -> Callable[..., Any]:
    kind, index = part
    if kind == "block":
        entry, leave = (found.sites[f"blocks.{index}.resid_{side}"] for side in ("pre", "post"))
        assert isinstance(entry, Tap)
        assert isinstance(leave, Tap)

        def handed_on(*args: Any, **kwargs: Any) -> Any:
            return put(form, leave.item, argument(module, args, kwargs, entry))

        return handed_on
    width = pick(form).shape[-1]

    def zeros(*args: Any, **kwargs: Any) -> Any:
        x = pick_input(args, kwargs)
        return put(form, None, x.new_zeros(*x.shape[:-1], width))

    return zeros
