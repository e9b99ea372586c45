"""The corpus that comes with layerscope, used where no data are given."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import as_file, files

from layerscope.corpus.conllu import read_conllu
from layerscope.corpus.corpus import Corpus
from layerscope.corpus.text import Text

FILE = "sentences.conllu.gz"


def bundled() -> Corpus:
    """Generated English-like sentences with exact labels, as `layerscope.demo` describes them.

    Raises:
        FileNotFoundError: this installation lacks the file.
    """
    resource = files("layerscope.demo") / FILE
    if not resource.is_file():
        raise FileNotFoundError(
            f"this installation of layerscope has no demo/{FILE}; reinstall it, or give your own "
            "data: read('texts.jsonl')"
        )

    def texts() -> Iterator[Text]:
        # A zipped installation unpacks the file for as long as it is read.
        with as_file(resource) as path:
            yield from read_conllu(path)

    return Corpus("bundled sentences", texts)
