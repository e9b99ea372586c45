"""Candidates for the stack of blocks, from what a model declares and how it is built. Runs nothing.

Three kinds of evidence, strongest first: the model's own declarations (`_can_record_outputs`,
`GradientCheckpointingLayer`, `get_decoder`), a length equal to the config's number of layers, and
plain structure (a list of like modules that holds most of the parameters).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, eq=False)
class Stack:
    """A container whose children may be the blocks."""

    path: str
    paths: tuple[str, ...]
    """Path of each child, in order."""
    modules: tuple[nn.Module, ...]
    declared: bool
    """Its children are of the class that the model itself names as a layer."""
    expected: bool
    """Its length is the config's number of layers."""
    alike: bool
    """Most children are of one class."""
    parameters: int

    def inside(self, other: Stack) -> bool:
        """Whether this container lies within another."""
        return self.path.startswith(f"{other.path}." if other.path else "")

    @property
    def rank(self) -> tuple[bool, bool, bool, int]:
        return (self.declared and self.expected, self.declared, self.alike, self.parameters)


def declarer(model: nn.Module) -> Any:
    """The outermost module that describes itself (has a config and embeddings), else `model`.

    Wrappers such as DataParallel or PEFT hide the describing model one or more levels down.
    """
    for module in model.modules():
        if hasattr(module, "config") and hasattr(module, "get_input_embeddings"):
            return module
    return model


def text_config(model: nn.Module) -> Any:
    """The config that counts the layers of the language part, or None for a plain module."""
    config = getattr(declarer(model), "config", None)
    if config is None or not hasattr(config, "get_text_config"):
        return config
    return config.get_text_config(decoder=True)


def stacks(model: nn.Module) -> list[Stack]:
    """Candidates for the main (decoder) stack, the likeliest first; those in `get_decoder()` lead."""
    root = decoder_of(model)
    prefix = path_in(model, root)
    count = _count(text_config(model), "num_hidden_layers", "decoder_layers")
    inside = _ranked(root, prefix, count, _layer_classes(model))
    if root is model:
        return inside
    seen = {stack.path for stack in inside}
    around = _ranked(model, "", count, _layer_classes(model))
    return inside + [stack for stack in around if stack.path not in seen]


def encoder_stacks(model: nn.Module) -> list[Stack]:
    """Candidates for the encoder of an encoder-decoder; empty for every other model."""
    encoder = encoder_of(model)
    if encoder is None:
        return []
    config = getattr(encoder, "config", None)
    count = _count(config, "encoder_layers", "num_hidden_layers", "num_layers")
    return _ranked(encoder, path_in(model, encoder), count, _layer_classes(model))


def passed_over(model: nn.Module, main: Stack) -> list[str]:
    """Paths of stacks beside the main one that are built of the same blocks: the stages of a CNN."""
    kinds = {type(module) for module in main.modules}
    elsewhere = {stack.path for stack in encoder_stacks(model)}
    return [
        stack.path
        for stack in sorted(_candidates(model, "", None, ()), key=lambda stack: stack.path)
        if stack.path not in elsewhere
        and stack.path != main.path
        and not stack.inside(main)
        and not main.inside(stack)
        and any(type(module) in kinds for module in stack.modules)
    ]


def note_of_others(model: nn.Module, main: Stack) -> tuple[str, ...]:
    """What to say of the stacks beside the main one; nothing where there is none."""
    others = passed_over(model, main)
    if not others:
        return ()
    named = ", ".join(others[:4]) + (" ..." if len(others) > 4 else "")
    said = f"blocks, and 'all', are those of {main.path} alone; name like ones by path: {named}"
    return (said,)


def decoder_of(model: nn.Module) -> nn.Module:
    """What the model names its decoder, else the model."""
    about = declarer(model)
    if not hasattr(about, "get_decoder"):
        return model
    found = about.get_decoder()
    return found if isinstance(found, nn.Module) and found is not about else model


def encoder_of(model: nn.Module) -> nn.Module | None:
    """What an encoder-decoder names its encoder; None for other models."""
    about = declarer(model)
    config = getattr(about, "config", None)
    if not getattr(config, "is_encoder_decoder", False) or not hasattr(about, "get_encoder"):
        return None
    found = about.get_encoder()
    return found if isinstance(found, nn.Module) and found is not about else None


def path_in(model: nn.Module, wanted: nn.Module | None) -> str:
    """The path of a module object inside `model`; "" for the model itself or an outsider."""
    return next((path for path, module in model.named_modules() if module is wanted), "")


def _count(config: Any, *names: str) -> int | None:
    found = (getattr(config, name, None) for name in names)
    return next((n for n in found if isinstance(n, int)), None)


def _ranked(
    root: nn.Module, prefix: str, count: int | None, classes: tuple[type, ...]
) -> list[Stack]:
    found = list(_candidates(root, prefix, count, classes))
    return sorted(found, key=lambda stack: stack.rank, reverse=True)


def _candidates(
    root: nn.Module, prefix: str, count: int | None, classes: tuple[type, ...]
) -> Iterator[Stack]:
    for path, module in root.named_modules(prefix=prefix):
        if not isinstance(module, (nn.ModuleList, nn.Sequential)) or len(module) == 0:
            continue
        children = tuple(module)
        kinds = Counter(type(child) for child in children)
        yield Stack(
            path=path,
            # named_children() would drop a block that is listed twice.
            paths=tuple(f"{path}.{name}".lstrip(".") for name in module._modules),
            modules=children,
            declared=all(isinstance(child, classes) for child in children),
            expected=len(children) == count,
            alike=len(children) > 1 and kinds.most_common(1)[0][1] * 2 > len(children),
            parameters=sum(p.numel() for p in module.parameters()),
        )


def _layer_classes(model: nn.Module) -> tuple[type, ...]:
    """Classes the model declares as layers: recorders of hidden states, checkpointed layers."""
    return (*recorded_classes(model, "hidden_states"), *_checkpointed_classes(model))


def _checkpointed_classes(model: nn.Module) -> set[type]:
    # Found by its name in the class's own ancestry, so that transformers need not be imported.
    kinds = {type(module) for module in model.modules()}
    return {k for k in kinds if any(b.__name__ == "GradientCheckpointingLayer" for b in k.__mro__)}


def recorded_classes(model: nn.Module, key: str) -> set[type]:
    """Classes that any part of the model declares in `_can_record_outputs[key]`."""
    found: set[type] = set()
    for module in model.modules():
        declared = getattr(module, "_can_record_outputs", None) or {}
        targets = declared.get(key, []) if isinstance(declared, dict) else []
        for target in targets if isinstance(targets, list) else [targets]:
            target = getattr(target, "target_class", target)
            if isinstance(target, type):
                found.add(target)
    return found
