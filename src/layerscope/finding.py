"""What every analysis returns: a tidy table, where it came from, and what to beware of.

A finding is data plus two renderings (`answer` in words, `figure` as a picture) that only read
the table, so a saved finding draws itself again years later without the model.
"""

from __future__ import annotations

import importlib
import json
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

FORMAT = 1
PACKAGES = ("layerscope", "torch", "transformers", "scikit-learn", "numpy")


def versions() -> dict[str, str]:
    """The versions a result depends on: Python, layerscope and the numeric packages."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a result came from: enough to compute it again, or to see why it differs."""

    model: str = ""
    """Name or folder of the model, and its parameter count where known."""
    data: str = ""
    """Name and size of the data."""
    store_key: str | None = None
    """Content key of the activations that were read; None where no store was involved."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Arguments of the analysis as plain JSON values."""
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=versions)
    seconds: float | None = None
    """Wall time of the analysis itself."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


@dataclass(frozen=True)
class Finding:
    """One answered question.

    A subclass states its `question`, and draws `answer` and `figure` from `table` alone.
    """

    table: pd.DataFrame
    """Tidy: one row per measured point."""
    provenance: Provenance
    notes: tuple[str, ...] = ()
    """Caveats that apply to this result."""

    question: ClassVar[str] = ""

    def answer(self) -> str:
        """One or two sentences with the numbers in them."""
        raise TypeError(f"{type(self).__name__} states no answer; define answer()")

    def figure(self) -> go.Figure:
        """The picture of `table`; draws only, computes nothing."""
        raise TypeError(f"{type(self).__name__} draws no figure; define figure()")

    def save(self, path: str | Path) -> Path:
        """Write the finding as a folder: `finding.json` and `table.parquet`. Returns the folder."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        self.table.to_parquet(folder / "table.parquet")
        body = {
            "format": FORMAT,
            "kind": f"{type(self).__module__}:{type(self).__qualname__}",
            "question": self.question,
            "answer": self.answer(),
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }
        (folder / "finding.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
        return folder

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a folder written by `save`.

        Only classes of layerscope itself are looked up by name; nothing stored is executed.

        Raises:
            FileNotFoundError: there is no `finding.json` in the folder.
            ValueError: another format, a foreign class, or a finding of another kind than `cls`.
        """
        import pandas as pd

        folder = Path(path)
        header = folder / "finding.json"
        if not header.is_file():
            raise FileNotFoundError(f"{folder}: no finding.json here; give a folder that save() wrote")
        body = json.loads(header.read_text())
        if body.get("format") != FORMAT:
            raise ValueError(
                f"{header}: format {body.get('format')!r}, this layerscope reads {FORMAT}; "
                "run the analysis again"
            )
        kind = _finding_class(body["kind"])
        if not issubclass(kind, cls):
            raise ValueError(f"{folder} holds a {kind.__name__}, not a {cls.__name__}")
        return kind(
            table=pd.read_parquet(folder / "table.parquet"),
            provenance=Provenance(**body["provenance"]),
            notes=tuple(body["notes"]),
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """In Jupyter: the answer, then the figure."""
        from layerscope.theme import themed

        bundle: dict[str, Any] = themed(self.figure())._repr_mimebundle_()
        return bundle | {"text/plain": str(self)}

    def __str__(self) -> str:
        notes = "".join(f"\n  note: {note}" for note in self.notes)
        return f"{self.question}\n{self.answer()}{notes}"


def _finding_class(kind: str) -> type[Finding]:
    module_name, _, class_name = kind.partition(":")
    if module_name.split(".")[0] != "layerscope":
        raise ValueError(f"{kind!r} is not a layerscope finding; only those are loaded by name")
    found = getattr(importlib.import_module(module_name), class_name, None)
    if not (isinstance(found, type) and issubclass(found, Finding)):
        raise ValueError(f"{kind!r} is not a finding in this version of layerscope")
    return found
