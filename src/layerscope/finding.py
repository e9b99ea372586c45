"""What every analysis returns: a tidy table, where it came from, and what to beware of.

A finding is data plus two renderings (`answer` in words, `figure` as a picture) that only read
the table, so a saved finding draws itself again years later without the model.
"""

from __future__ import annotations

import importlib
import json
import platform
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from layerscope.saved import read_header, read_table, write
from layerscope.wording import opening

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

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
    """Where a result came from: enough to compute it again, or to see why it differs.

    Raises:
        TypeError: a parameter that JSON cannot hold.
    """

    model: str = ""
    """Name or folder of the model, and its parameter count where known."""
    data: str = ""
    """Name and size of the data."""
    store_key: str | None = None
    """Content key of the activations that were read; None where no store was involved."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Arguments of the analysis; tuples become lists, paths text, so that loading gives equals."""
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=versions)
    seconds: float | None = None
    """Wall time of the analysis itself."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    """ISO 8601, UTC."""
    call: str = ""
    """The Python call or shell command that gives this finding again, where it is known."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", _json_values(self.parameters))


@dataclass(frozen=True, repr=False)
class Finding:
    """One answered question.

    A subclass states its `question`, and draws `answer` and `figure` from `table` alone; it adds
    no fields, so whatever it says is in the saved table too.
    """

    table: pd.DataFrame
    """Tidy: one row per measured point."""
    provenance: Provenance
    notes: tuple[str, ...] = ()
    """Caveats that apply to this result."""

    question: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__repr__" not in vars(cls):  # else @dataclass would print the whole table
            cls.__repr__ = Finding.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        try:
            said = self.answer()
        except (
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ):  # shown in debuggers, broken too
            said = self.question
        return f"<{type(self).__name__}, {len(self.table):,} rows: {said}>"

    def answer(self) -> str:
        """One or two sentences with the numbers in them."""
        raise TypeError(f"{type(self).__name__} states no answer; define answer()")

    def gist(self) -> str:
        """One plain sentence for somebody who reads nothing else, from `table` alone.

        It has two or three rounded numbers and what they are to be compared with, names layers as
        ``block 5``, and says so where nothing is seen or a control does as well.
        """
        return opening(self.answer())

    def figure(self) -> go.Figure:
        """The picture of `table`; draws only, computes nothing."""
        raise TypeError(f"{type(self).__name__} draws no figure; define figure()")

    def page(self) -> str:
        """HTML that a report shows under the figure: static, escaped, drawn from `table`; none by default.

        It runs nothing of its own. Where it has an element of role ``search`` around an input and an
        output, the report lets it look through the ``text`` of the figure's points and through the
        ``data-words`` of the parts of the page.
        """
        return ""

    def save(self, path: str | Path) -> Path:
        """Write the finding as a folder: `finding.json` and `table.parquet`. Returns the folder.

        A finding of the same kind that was saved there before is replaced.

        Raises:
            TypeError: the class keeps state outside its table.
            ValueError: the folder holds a finding of another kind, a store or a model.
            ValueError: a column of the table mixes types that no file format can hold.
        """
        _refuse_extra_fields(self)
        header = {
            "kind": _kind_of(type(self)),
            "question": self.question,
            "answer": self.answer(),
            "notes": list(self.notes),
            "provenance": asdict(self.provenance),
        }
        folder = Path(path)
        write(folder, header, self.table)
        return folder

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a folder written by `save`.

        Only classes of layerscope itself, and `cls`, are looked up by name; nothing stored is
        executed.

        Raises:
            FileNotFoundError: there is no `finding.json` or no `table.parquet` in the folder.
            ValueError: another format, a foreign class, a finding of another kind than `cls`, or
                a damaged file.
        """
        folder = Path(path)
        body = read_header(folder)
        kind = cls if body["kind"] == _kind_of(cls) else _finding_class(body["kind"], folder)
        if not issubclass(kind, cls):
            raise ValueError(f"{folder} holds a {kind.__name__}, not a {cls.__name__}")
        return kind(
            table=read_table(folder),
            provenance=_read_provenance(body["provenance"], folder),
            notes=tuple(body["notes"]),
        )

    def _ipython_display_(self) -> None:
        """In Jupyter and VS Code: the answer and its caveats, then the figure.

        The figure is dark where plotly's own default is: ``plotly.io.templates.default =
        "plotly_dark"``.

        Two displays rather than one bundle: each front end keeps only one part of a bundle, and
        plotly knows best how to show its figure in this one.
        """
        from IPython.core.getipython import get_ipython
        from IPython.display import display

        from layerscope.theme import CONFIG, themed

        bundle = {"text/plain": str(self), "text/html": self._words()}
        display(bundle, raw=True)  # type: ignore[no-untyped-call]
        # A terminal has no place for figures; plotly would open a browser window there.
        if hasattr(get_ipython(), "kernel"):
            themed(self.figure(), dark=_is_dark()).show(config=CONFIG)

    def _repr_html_(self) -> str:
        """For tools that collect HTML without a kernel of Jupyter (marimo, Sphinx galleries).

        Answer, caveats and figure, complete in themselves: such tools show each in a frame of its
        own, so that plotly's 4.8 MB are in each, and nothing is fetched when it is looked at. For
        many findings `layerscope.report` holds plotly once.
        """
        from layerscope.theme import CONFIG, themed

        figure = themed(self.figure(), dark=_is_dark())
        drawn: str = figure.to_html(config=CONFIG, full_html=False, include_plotlyjs=True)
        return self._words() + drawn

    def _words(self) -> str:
        from layerscope.notebook import answered

        return answered(self.question, self.answer(), self.notes)

    def __str__(self) -> str:
        notes = "".join(f"\n  note: {note}" for note in self.notes)
        return f"{self.question}\n{self.answer()}{notes}"


def _is_dark() -> bool:
    """Whether the user's other figures are dark: a page cannot be asked from here."""
    import plotly.io as pio

    return "dark" in str(pio.templates.default)


def _json_values(parameters: dict[str, Any]) -> dict[str, Any]:
    def plain(value: object) -> object:
        if isinstance(value, Path):
            return str(value)
        if hasattr(value, "tolist"):  # NumPy and torch numbers and arrays
            return value.tolist()
        raise TypeError(
            f"provenance parameters are plain JSON values, got {value!r} ({type(value).__name__}); "
            "give its name or its numbers"
        )

    values: dict[str, Any] = json.loads(json.dumps(parameters, default=plain))
    return values


def _refuse_extra_fields(finding: Finding) -> None:
    known = {item.name for item in fields(Finding)}
    extra = [item.name for item in fields(finding) if item.name not in known]
    if extra:
        raise TypeError(
            f"{type(finding).__name__} keeps {', '.join(extra)} outside its table, where saving "
            "would lose it; make it a column or a provenance parameter"
        )


def _read_provenance(body: dict[str, Any], folder: Path) -> Provenance:
    unknown = body.keys() - {item.name for item in fields(Provenance)}
    if unknown:
        written_by = body.get("versions", {}).get("layerscope", "unknown")
        raise ValueError(
            f"{folder}: written by layerscope {written_by}, whose provenance has {min(unknown)!r}; "
            "update layerscope to read it"
        )
    return Provenance(**body)


def _kind_of(kind: type[Finding]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _finding_class(kind: str, folder: Path) -> type[Finding]:
    module_name, _, class_name = kind.partition(":")
    if module_name.split(".")[0] != "layerscope":
        raise ValueError(
            f"{folder}: {kind!r} is not a layerscope finding, and only those are looked up by "
            f"name; load it with its own class: {class_name}.load({str(folder)!r})"
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        found = None
    if not (isinstance(found, type) and issubclass(found, Finding)):
        raise ValueError(
            f"{folder}: {kind!r} is not a finding in layerscope {versions().get('layerscope')}; "
            "install the version named in its finding.json, or run the analysis again"
        )
    return found
