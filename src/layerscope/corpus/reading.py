"""read(): whatever holds texts or tensors, as a Corpus or as Samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from layerscope.corpus import frames, tables
from layerscope.corpus.conllu import read_conllu
from layerscope.corpus.corpus import NO_TEXT, Corpus
from layerscope.corpus.files import files_at, kind_of
from layerscope.corpus.labels import Asked, with_labels
from layerscope.corpus.plain import read_plain, wrapped_note
from layerscope.corpus.python_source import read_python
from layerscope.corpus.records import Fields, MisfitError, Record, ignored, texts_of
from layerscope.corpus.text import Text

if TYPE_CHECKING:
    from layerscope.corpus.samples import Samples

TABLES: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": tables.jsonl_records,
    ".json": tables.json_records,
    ".csv": partial(tables.csv_records, delimiter=","),
    ".tsv": partial(tables.csv_records, delimiter="\t"),
    ".parquet": tables.parquet_records,
}
_DATA = (".txt", ".conllu", *TABLES)
KINDS = (*_DATA, ".py")


@overload
def read(
    source: str | Path | list[str] | list[dict[str, Any]],
    *,
    text: str | None = None,
    label: Asked = None,
    group: str | None = None,
    name: str | None = None,
) -> Corpus: ...
@overload
def read(
    source: Any,
    *,
    text: str | None = None,
    label: Asked = None,
    group: str | None = None,
    name: str | None = None,
) -> Corpus | Samples: ...
def read(
    source: Any,
    *,
    text: str | None = None,
    label: Asked = None,
    group: str | None = None,
    name: str | None = None,
) -> Corpus | Samples:
    """Open texts with labels, or tensors, for `extract` and `probe`.

    Files are read piece by piece at each use and never held whole, except ``.json``.

    Args:
        source: One of

            - a file: ``.txt .jsonl .json .csv .tsv .parquet .conllu .py``, each also ``.gz``;
            - a folder, or a pattern such as ``"data/*.csv"``, of files of one kind, sorted by name;
            - a list of strings or of dicts, a dict of columns, a DataFrame, a
              `datasets.Dataset`;
            - a tensor, array, dict of tensors or `DataLoader`, which become `Samples`.
        text: The column with the texts. By default ``text``, ``sentence``, ``content`` or
            ``prompt``, or the only column of strings. For ``.txt``: ``"line"`` (the default),
            ``"paragraph"`` or ``"document"``.
        label: The labels to keep: a name, several, or ``{name in the data: new name}``. By
            default every other column.
        group: The column with what must not straddle a split. By default each text is its own
            group; for ``.conllu``, ``"document"`` (the default) or ``"sentence"``; for ``.py``, ``"file"``
            (the default where there are several) or ``"definition"``.
        name: What reports call the data; by default the file's name.

    Returns:
        A `Corpus`, or `Samples` for tensors.

    Raises:
        FileNotFoundError: no such file; the nearest names are in the message.
        ValueError: an unknown kind of file, a missing column or label (with the nearest names),
            nothing to read, or a malformed line (with its number).
    """
    if frames.is_samples(source):
        _refuse(source, text=text, label=label, group=group, name=name)
        return cast("Samples", source)
    if frames.is_tensors(source) and not frames.is_dataset(source):
        from layerscope.corpus.loaders import samples_of

        if isinstance(source, list):
            raise TypeError(
                "a list of tensors can mean samples or inputs; give torch.stack(...) for samples, "
                "or a tuple for several inputs of the model"
            )
        if text is not None:
            raise ValueError(f"text={text!r}: tensors have no column of texts")
        return samples_of(source, label=label, group=group, name=name)
    corpus = _corpus(source, text, group, name)
    if next(iter(corpus), None) is None:
        raise ValueError(f"{corpus.name!r} holds no text; {NO_TEXT}")
    return with_labels(corpus, label)


def _corpus(source: Any, text: str | None, group: str | None, name: str | None) -> Corpus:
    if isinstance(source, Corpus):
        _refuse(source, text=text, group=group, name=name)
        return source
    if isinstance(source, (list, tuple)) and source and isinstance(source[0], Text):
        _refuse(source[0], text=text, group=group)
        texts = tuple(source)
        return Corpus(name or "texts", lambda: texts)
    if isinstance(source, (str, Path)):
        return _from_path(Path(source).expanduser(), text, group, name)
    records, default = _records(source)
    return _of_tables(name or default, [_Table(records)], text, group)


def _refuse(source: Any, **options: Any) -> None:
    for option, value in options.items():
        if value is not None:
            raise ValueError(
                f"{option}={value!r}: this is a {type(source).__name__} already; "
                "give the option where it is first read"
            )


def _records(source: Any) -> tuple[Callable[[], Iterator[Record]], str]:
    """How to run through the records of an object in memory, and what to call it."""
    if frames.is_frame(source):
        return partial(frames.frame_records, source.copy()), "table"
    if frames.is_dataset(source):
        frames.check_single(source)
        return partial(frames.dataset_records, source), frames.dataset_name(source)
    if isinstance(source, Mapping):
        return partial(frames.column_records, dict(source)), "table"
    if isinstance(source, (list, tuple)) or frames.is_array(source):
        items = [dict(tables.as_record(item)) for item in source]
        return lambda: iter(items), "texts"
    raise TypeError(
        f"cannot read a {type(source).__name__}; give a file, a folder, a list of texts or "
        "dicts, a DataFrame, a datasets.Dataset, tensors or a DataLoader; "
        "what can be run through only once goes into a list first"
    )


def _from_path(path: Path, text: str | None, group: str | None, name: str | None) -> Corpus:
    files, folder = _files(path)
    kind = kind_of(files[0], KINDS)
    title = name or path.resolve().name.removesuffix(".gz").removesuffix(kind)
    prefixes = [f"{file.relative_to(folder)}:" if folder else "" for file in files]
    pairs = list(zip(files, prefixes, strict=True))
    if kind in TABLES:
        parts = [_Table(partial(TABLES[kind], file), f"{file}: ", start) for file, start in pairs]
        return _of_tables(title, parts, text, group, files)
    reader, notes = _reader(kind, text, group, files[0])
    return Corpus(
        title,
        lambda: chain.from_iterable(reader(file, prefix=prefix) for file, prefix in pairs),
        files=files,
        notes=notes,
    )


def _files(path: Path) -> tuple[list[Path], Path | None]:
    """The files that a path means; code in a folder of data is not what was meant."""
    if path.is_dir():
        try:
            return files_at(path, _DATA)
        except FileNotFoundError:
            pass
    return files_at(path, KINDS)


def _reader(
    kind: str, text: str | None, group: str | None, first: Path
) -> tuple[Callable[..., Iterator[Text]], list[str]]:
    """How to read files without columns, and caveats of doing so."""
    if kind == ".conllu":
        if text is not None:
            raise ValueError(f"text={text!r}: CoNLL-U has no columns of texts")
        return partial(read_conllu, group=group), []
    if kind == ".py":
        if text is not None:
            raise ValueError(f"text={text!r}: the texts of a Python file are its functions")
        return partial(read_python, group=group), []
    if group is not None:
        raise ValueError(f"group={group!r}: a .txt file has no columns; use .csv or .jsonl")
    return partial(read_plain, unit=text), wrapped_note(first) if text is None else []


@dataclass(frozen=True)
class _Table:
    """Records from one place."""

    records: Callable[[], Iterator[Record]]
    where: str = ""
    """Put before errors."""
    prefix: str = ""
    """Put before ids."""

    def texts(self, text: str | None, group: str | None) -> Iterator[Text]:
        records = self.records()
        for first in records:
            try:
                fields = Fields.of(first, text=text, group=group)
                yield from texts_of(chain([first], records), fields, prefix=self.prefix)
            except MisfitError as error:
                raise ValueError(f"{self.where}{error}") from None

    def notes(self) -> list[str]:
        """What the first record holds that no label can."""
        for first in self.records():
            names = ", ".join(map(repr, ignored(first)))
            return [f"{names} left out: not one plain value per text"] if names else []
        return []


def _of_tables(
    name: str,
    tables: list[_Table],
    text: str | None,
    group: str | None,
    files: Iterable[Path] = (),
) -> Corpus:
    return Corpus(
        name,
        lambda: chain.from_iterable(table.texts(text, group) for table in tables),
        files=files,
        notes=tables[0].notes(),
    )
