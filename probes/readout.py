"""The frozen result of fitting a linear probe: small, applied, saved and shared."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from torch import Tensor

FORMAT = 1
_TENSORS = ("weight", "bias", "mean", "scale")


@dataclass(frozen=True)
class LinearReadout:
    """A trained linear probe: ``scores = weight @ ((x - mean) / scale) + bias``."""

    weight: Tensor
    """``[outputs, width]`` on standardised features; one output per class, or one number."""
    bias: Tensor
    """``[outputs]``"""
    mean: Tensor
    """``[width]`` of the training rows."""
    scale: Tensor
    """``[width]`` standard deviation of the training rows; 1 where a feature is constant."""
    classes: tuple[Any, ...] = ()
    """What the outputs stand for; empty where a number is predicted."""
    site: str = ""
    label: str = ""
    l2: float = 0.0
    """The penalty it was trained with."""
    about: dict[str, Any] = field(default_factory=dict)
    """Rows, store key and the like, as JSON values."""

    def __call__(self, x: Tensor) -> Tensor:
        """``[..., outputs]`` scores of activations ``[..., width]``, on the device of `x`."""
        if x.shape[-1] != self.width:
            raise ValueError(
                f"this readout was trained at width {self.width}"
                f"{f' ({self.site})' if self.site else ''}, got {list(x.shape)}"
            )
        weight, bias, mean, scale = (getattr(self, name).to(x.device) for name in _TENSORS)
        scores: Tensor = (x.float() - mean) / scale @ weight.T + bias
        return scores

    @property
    def width(self) -> int:
        return self.weight.shape[1]

    @property
    def directions(self) -> Tensor:
        """``[outputs, width]`` in the model's own coordinates: what raises each score fastest."""
        return self.weight / self.scale

    def predict(self, x: Tensor) -> list[Any] | Tensor:
        """For ``[rows, width]`` the class of each row as a list, or a tensor of numbers."""
        scores = self(x)
        if not self.classes:
            return scores[..., 0]
        return [self.classes[i] for i in scores.argmax(-1).tolist()]

    def probabilities(self, x: Tensor) -> Tensor:
        """``[..., classes]``, rows sum to 1."""
        if not self.classes:
            raise ValueError(f"a readout of the number {self.label!r} has no probabilities")
        return self(x).softmax(-1)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file; the words are JSON in its metadata. Returns the path."""
        from safetensors.torch import save_file

        names = ("classes", "site", "label", "l2", "about")
        words = {"format": FORMAT} | {name: getattr(self, name) for name in names}
        tensors = {name: getattr(self, name).contiguous().cpu() for name in _TENSORS}
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, target, metadata={"layerscope.readout": json.dumps(words)})
        return target

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote.

        Raises:
            ValueError: it is no readout, or one of another format.
        """
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("layerscope.readout")
            if text is None:
                raise ValueError(f"{path}: no readout; give a file that LinearReadout.save wrote")
            words = json.loads(text)
            if words.pop("format") != FORMAT:
                raise ValueError(f"{path}: another format than {FORMAT}; train the readout again")
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
        return cls(**tensors, **words | {"classes": tuple(words["classes"])})
