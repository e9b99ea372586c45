"""What a lens does to a layer's state before the model's head decodes it: frozen, saved, shared."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor

FORMAT = 1
_KEY = "layerscope.lens"


class Translator(Protocol):
    """Brings residual `index` (0 is `embed`, i + 1 is after block i) to where the head reads."""

    @property
    def kind(self) -> str: ...
    def __call__(self, states: Tensor, index: int) -> Tensor: ...


@dataclass(frozen=True)
class LogitLens:
    """Nothing is done: the head reads the state as it is (nostalgebraist 2020)."""

    kind: Literal["logit"] = "logit"

    def __call__(self, states: Tensor, index: int) -> Tensor:
        """The states themselves."""
        return states


@dataclass(frozen=True)
class AffineLens:
    """One affine map for each residual but the last: ``h + weight @ h + bias``.

    With zeros it is the logit lens, bit for bit. The last residual is what the head was made for
    and stays as it is.
    """

    weight: Tensor
    """`[L, d, d]`"""
    bias: Tensor
    """`[L, d]`"""
    kind: Literal["tuned", "affine"]
    """``"tuned"``: trained on KL(final || lens) (Belrose et al. 2023). ``"affine"``: least squares."""
    about: dict[str, Any] = field(default_factory=dict)
    """Model, data, settings: JSON values."""

    @classmethod
    def zeros(cls, blocks: int, width: int, kind: Literal["tuned", "affine"] = "tuned") -> Self:
        """Where the tuned lens begins."""
        return cls(torch.zeros(blocks, width, width), torch.zeros(blocks, width), kind)

    def __call__(self, states: Tensor, index: int) -> Tensor:
        """Translated states `[..., d]`, in the dtype and on the device of `states`.

        Half precision is translated in float32 and rounded once.

        Raises:
            ValueError: states of another width, or a residual that this lens was not made for.
        """
        blocks, width = self.bias.shape
        if states.shape[-1] != width or not 0 <= index <= blocks:
            raise ValueError(
                f"this lens is for residuals 0 to {blocks} of width {width}; got residual {index} "
                f"of width {states.shape[-1]}. Was it fitted on another model?"
            )
        if index == blocks:
            return states
        wide = states if states.dtype == torch.float64 else states.float()
        weight, bias = (x[index].to(wide) for x in (self.weight, self.bias))
        return (wide + torch.nn.functional.linear(wide, weight, bias)).to(states.dtype)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file; the words are JSON in its metadata. Returns the path."""
        from safetensors.torch import save_file

        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        words = {"format": FORMAT, "kind": self.kind, "about": self.about}
        tensors = {"weight": self.weight.contiguous().cpu(), "bias": self.bias.contiguous().cpu()}
        save_file(tensors, target, metadata={_KEY: json.dumps(words)})
        return target

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote.

        Raises:
            ValueError: it is no lens, or one of another format.
        """
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise ValueError(f"{path}: no lens; give a file that AffineLens.save wrote")
            words = json.loads(text)
            if words["format"] != FORMAT:
                raise ValueError(f"{path}: another format than {FORMAT}; fit the lens again")
            weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
        return cls(weight, bias, words["kind"], words["about"])
