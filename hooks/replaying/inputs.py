"""What a model is called with: a batch of prompts that can be cut, repeated and continued."""

from __future__ import annotations

from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from layerscope.hooks.anatomy import as_call

POSITIONED = ("input_ids", "inputs_embeds", "position_ids", "token_type_ids")
"""Arguments with one entry for each computed position."""
CUTTABLE = {*POSITIONED, "attention_mask"}
DROPPED = ("labels", "use_cache", "past_key_values")
"""What a recording decides by itself."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """The arguments of one model call. Every tensor's first axis is the prompts."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Tensor:
        """The tensor that says how many prompts and positions there are."""
        given = [*self.args, *self.kwargs.values()]
        return next(x for x in given if isinstance(x, Tensor))

    @property
    def prompts(self) -> int:
        return self.first.shape[0]

    @property
    def cuttable(self) -> bool:
        """Whether positions can be taken from it: every argument is known, masks are of padding."""
        mask = self.kwargs.get("attention_mask")
        known = not self.args and set(self.kwargs) <= CUTTABLE
        return known and (mask is None or mask.ndim == 2)

    @property
    def padded(self) -> bool:
        """Whether some position is padding."""
        mask = self.kwargs.get("attention_mask")
        return mask is not None and mask.ndim == 2 and not bool(mask.all())

    @property
    def padded_right(self) -> bool:
        """Whether the last position of some prompt is padding."""
        mask = self.kwargs.get("attention_mask")
        return mask is not None and mask.ndim == 2 and not bool(mask[:, -1].all())

    @property
    def ids(self) -> Tensor | None:
        """Token ids [prompts, positions]; None for other kinds of input."""
        return self.kwargs.get("input_ids")

    def cut(self, start: int) -> Inputs:
        """Only the positions from `start` on; the attention mask still covers those before."""
        if start == 0:
            return self
        kept = {k: v[:, start:] if k in POSITIONED else v for k, v in self.kwargs.items()}
        return replace(self, kwargs=kept)

    def of(self, rows: Tensor) -> Inputs:
        """The chosen prompts, each as often as it is named."""

        def pick(x: Any) -> Any:
            if isinstance(x, Tensor) and x.ndim and x.shape[0] == self.prompts:
                return x.index_select(0, rows.to(x.device))
            return x

        args = tuple(map(pick, self.args))
        return replace(self, args=args, kwargs={k: pick(v) for k, v in self.kwargs.items()})

    def given(self, **more: Any) -> Inputs:
        """With more keyword arguments."""
        return replace(self, kwargs={**self.kwargs, **more})


def inputs_of(model: nn.Module, batch: Any) -> Inputs:
    """A user's batch as arguments: ids as a tensor, keyword arguments, or positional ones.

    Left-padded prompts get the positions that they would have alone, where the model takes any.

    Raises:
        TypeError: no tensor among the arguments.
        ValueError: no prompt, or no position; ids that the model does not know.
    """
    takes = accepted(model)
    if isinstance(batch, Tensor) and "input_ids" in takes:
        batch = {"input_ids": torch.atleast_2d(batch)}
    args, kwargs = as_call(batch)
    inputs = Inputs(args, {k: v for k, v in kwargs.items() if k not in DROPPED})
    if not any(isinstance(x, Tensor) for x in [*inputs.args, *inputs.kwargs.values()]):
        raise TypeError(
            "the batch holds no tensor; give token ids [prompts, positions], or the dict a "
            "tokenizer returns with return_tensors='pt'"
        )
    if 0 in inputs.first.shape:
        raise ValueError(
            f"the batch is empty: its first tensor is {list(inputs.first.shape)}; give one prompt or "
            "more"
        )
    _require_known(model, inputs)
    return _positioned(inputs, takes) if generates(model) else inputs


def accepted(model: nn.Module) -> set[str]:
    """The keyword arguments that the model's forward names."""
    return set(signature(model.forward).parameters)


def _require_known(model: nn.Module, inputs: Inputs) -> None:
    """Refuse ids the model has no embedding for, of tokens or of learned positions.

    Raises:
        ValueError: torch would only say "index out of range".
    """
    if inputs.ids is None:
        return
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    size, most = getattr(embedding, "num_embeddings", None), int(inputs.ids.max())
    if size is not None and most >= size:
        raise ValueError(
            f"token id {most} is outside the model's vocabulary of {size}; were the ids made by "
            "another model's tokenizer?"
        )
    config = getattr(model, "config", None)
    context = getattr(config, "max_position_embeddings", None)
    length = inputs.ids.shape[1]
    if isinstance(context, int) and length > context and _has_table(model, context):
        raise ValueError(
            f"the prompts have {length} positions, and {type(model).__name__} has learned {context}; "
            "cut them"
        )


def _has_table(model: nn.Module, context: int) -> bool:
    """Whether positions are looked up, so that there are none beyond the context."""
    tables = (m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding))
    return context in tables


def generates(model: nn.Module) -> bool:
    """Whether it reads from left to right: encoders take a cache too, and ignore it."""
    can = getattr(model, "can_generate", None)
    config = getattr(model, "config", None)
    return bool(can and can()) or bool(getattr(config, "is_decoder", False))


def _positioned(inputs: Inputs, takes: set[str]) -> Inputs:
    mask = inputs.kwargs.get("attention_mask")
    if mask is None or mask.ndim != 2 or bool(mask[:, 0].bool().all()):
        return inputs  # padding on the right moves no position
    if "position_ids" in inputs.kwargs or "position_ids" not in takes or inputs.ids is None:
        return inputs
    positions = (mask.long().cumsum(-1) - 1).clamp_min(0)
    note = "padded prompts: each token has the position it would have without padding"
    return replace(
        inputs, kwargs={**inputs.kwargs, "position_ids": positions}, notes=(*inputs.notes, note)
    )
