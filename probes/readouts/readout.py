"""What all frozen readouts share: a name, a place, and one safetensors file with JSON inside."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor

FORMAT = 2
_KEY = "layerscope.readout"
_HOME = {
    "linear": ("linear", "LinearReadout"),
    "structural": ("structural", "StructuralReadout"),
    "ast": ("ast", "AstReadout"),
    "mlp": ("mlp", "MLPReadout"),
    "prototypes": ("prototypes", "PrototypeReadout"),
    "concepts": ("concepts", "ConceptReadout"),
    "centroids": ("centroids", "CentroidReadout"),
    "layer_mix": ("layer_mix", "LayerMixReadout"),
    "pooled": ("pooled", "PooledReadout"),
}
"""Kind in the file -> file and class here; nothing else is looked up by name."""


@dataclass(frozen=True, kw_only=True)
class Readout(ABC):
    """A trained probe: small, applied to activations ``[..., width]``, saved and shared.

    Subclasses are frozen dataclasses; fields that hold a `Tensor` go into the file as tensors, all
    others as JSON.
    """

    kind: ClassVar[str]

    classes: tuple[Any, ...] = ()
    """What the outputs stand for; empty where a number is predicted."""
    site: str = ""
    label: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    """Rows, store key and the like, as JSON values."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__repr__ = Readout.__repr__  # type: ignore[method-assign]  # @dataclass prints tensors

    def __repr__(self) -> str:
        of = f" of {self.label}" if self.label else ""
        at = f" at {self.site}" if self.site else ""
        classes = ", ".join(map(str, self.classes[:6])) + ", ..." * (len(self.classes) > 6)
        told = f"{len(self.classes)} classes ({classes})" if self.classes else "a number"
        return (
            f"{type(self).__name__}{of}{at}: width {self.width} -> {told}\n"
            "  next: readout.predict(x), x of shape [..., width]; readout.save(path)"
        )

    @property
    @abstractmethod
    def width(self) -> int:
        """Features it was trained on."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """``[..., outputs]`` scores of activations ``[..., width]``, on the device of `x`."""

    def check(self, x: Tensor) -> None:
        """Refuse activations of another width."""
        if x.shape[-1] != self.width:
            raise ValueError(
                f"this readout was trained at width {self.width}"
                f"{f' ({self.site})' if self.site else ''}, got {list(x.shape)}; give [..., {self.width}] "
                "of the site and model that it was trained on"
            )

    def predict(self, x: Tensor) -> Any:
        """For ``[rows, width]`` the class of each row as a list, or a tensor of numbers.

        For one row ``[width]`` a class or a number alone; further dimensions nest the lists.
        """
        scores = self(x)
        if not self.classes:
            return scores[..., 0]
        return self._named(scores.argmax(-1).tolist())

    def _named(self, codes: int | list[Any]) -> Any:
        if isinstance(codes, list):
            return [self._named(code) for code in codes]
        return self.classes[codes]

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file; the words are JSON in its metadata. Returns the path."""
        from safetensors.torch import save_file

        values = {item.name: getattr(self, item.name) for item in fields(self)}
        tensors = {
            name: value.contiguous().cpu()
            for name, value in values.items()
            if isinstance(value, Tensor)
        }
        words = {name: value for name, value in values.items() if name not in tensors}
        text = json.dumps({"format": FORMAT, "kind": self.kind} | words)
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, target, metadata={_KEY: text})
        return target

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote; `Readout.load` reads every kind.

        Raises:
            ValueError: it is no readout, one of another format, or one of another kind.
        """
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise ValueError(f"{path}: no readout; give a file that a readout's save() wrote")
            words = json.loads(text)
            if words.pop("format", None) != FORMAT or words.get("kind") not in _HOME:
                raise ValueError(f"{path}: another format than {FORMAT}; train the readout again")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        home, name = _HOME[words.pop("kind")]
        found = getattr(import_module(f"layerscope.probes.readouts.{home}"), name)
        if not issubclass(found, cls):
            raise ValueError(
                f"{path} holds a {name}, not a {cls.__name__}; Readout.load reads any of them"
            )
        made: Self = found(**tensors, **words | {"classes": tuple(words["classes"])})
        return made
