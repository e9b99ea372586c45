"""read(): whatever holds texts or tensors, as a Corpus or as Samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from layerscope.corpus.conllu import read_conllu
from layerscope.corpus.corpus import Corpus
from layerscope.corpus.files import missing, numbered_lines
from layerscope.corpus.text import Text


def read(source: Any, *, text=None, label=None, group=None, name=None) -> Corpus:
    if isinstance(source, (list, tuple)):
        texts = [Text(t, str(i), str(i)) for i, t in enumerate(source)]
        return Corpus(name or "texts", lambda: texts)
    path = Path(source)
    if not path.exists():
        raise missing(path)
    stem = path.name.removesuffix(".gz")
    if stem.endswith(".conllu"):
        return Corpus(name or stem.removesuffix(".conllu"), lambda: read_conllu(path, group=group), files=[path])
    if stem.endswith(".txt"):
        return Corpus(
            name or stem.removesuffix(".txt"),
            lambda: (Text(line.rstrip("\r\n"), str(i), str(i)) for i, (_, line) in enumerate(numbered_lines(path))),
            files=[path],
        )
    raise ValueError(path)
