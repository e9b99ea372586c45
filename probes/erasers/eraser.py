"""A fitted eraser: a small frozen object that only applies, saved as safetensors and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

FORMAT = 1
_KEY = "layerscope.eraser"


@dataclass(frozen=True, kw_only=True, eq=False)
class Eraser:
    """``x - remove @ (read @ (x - center))``: takes what it reads out of activations.

    A function of one tensor, so `layerscope.edits.change(eraser)`, or the eraser itself, is an
    edit of a running model.
    """

    remove: Tensor
    """``[width, rank]`` what is taken away for each reading."""
    read: Tensor
    """``[rank, width]`` the readings; ``read @ remove`` is the identity."""
    center: Tensor
    """``[width]`` the mean of the training rows: where it reads zero, and which it leaves alone."""
    method: str
    """``leace``, ``inlp``, ``random``, ``mean_difference`` or ``matched``."""
    site: str = ""
    label: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    """Rows, store key, accuracies on the way and the like, as JSON values."""

    @property
    def rank(self) -> int:
        """How many directions it takes away."""
        return self.read.shape[0]

    @property
    def width(self) -> int:
        return self.center.shape[0]

    def __call__(self, x: Tensor) -> Tensor:
        """Erased activations, in the shape, dtype and place of `x`, ``[..., width]``.

        Computed in float32 at least, in float64 where `x` is.

        Raises:
            ValueError: `x` has another width.
        """
        if x.shape[-1] != self.width:
            raise ValueError(
                f"this eraser was fitted at width {self.width}"
                f"{f' ({self.site})' if self.site else ''}, got {list(x.shape)}"
            )
        wide = torch.promote_types(x.dtype, torch.float32)
        remove, read, center = (
            part.to(x.device, wide) for part in (self.remove, self.read, self.center)
        )
        full = x.to(wide)
        return (full - ((full - center) @ read.T) @ remove.T).to(x.dtype)

    def __repr__(self) -> str:
        of = f" of {self.label}" if self.label else ""
        where = f" at {self.site}" if self.site else ""
        return f"Eraser{of}{where}: {self.method}, {self.rank} of {self.width} directions"

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file; the words are JSON in its metadata. Returns the path."""
        from safetensors.torch import save_file

        values = {item.name: getattr(self, item.name) for item in fields(self)}
        tensors = {k: v.contiguous().cpu() for k, v in values.items() if isinstance(v, Tensor)}
        words = {k: v for k, v in values.items() if k not in tensors}
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT} | words)
        save_file(tensors, target, metadata={_KEY: text})
        return target

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote.

        Raises:
            ValueError: it is no eraser, or one of another format.
        """
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise ValueError(f"{path}: no eraser; give a file that an eraser's save() wrote")
            words = json.loads(text)
            if words.pop("format", None) != FORMAT:
                raise ValueError(f"{path}: another format than {FORMAT}; fit the eraser again")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return cls(**tensors, **words)
