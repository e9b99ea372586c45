"""What a user typed, as models, texts and layers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerscope.cli.waiting import waiting

if TYPE_CHECKING:
    from layerscope.corpus import Corpus, Samples


def loaded(name: str, device: str | None) -> Any:
    """The model."""
    with waiting(f"loading {name}"):
        from layerscope.hooks.load import load_model

        return load_model(name, device=device)


def usable(device: str | None) -> None:
    """Refuse a device that is not there, before any work."""
    if device is not None:
        from layerscope.hooks.load import check_device

        check_device(device)


def texts(data: str, text: str | None, group: str | None, limit: int | None) -> Corpus | Samples:
    """The texts, or the first `limit` of them."""
    from layerscope.corpus import Corpus, read

    corpus = read(data, text=text, group=group)
    return corpus.take(limit) if limit is not None and isinstance(corpus, Corpus) else corpus


def is_there(name: str) -> bool:
    """Whether `name` is a file or folder, rather than a text.

    Raises:
        FileNotFoundError: it has the looks of a file, and there is none.
        ValueError: it is empty.
    """
    if not name.strip():
        raise ValueError("an empty text; give a text, a file of texts, or leave it out")
    try:
        if Path(name).exists():
            return True
    except OSError:  # longer than a file's name can be
        return False
    if looks_like_file(name):
        raise FileNotFoundError(
            f"no such file: {name!r}; a text of this look is read from a file, such as a .txt"
        )
    return False


def looks_like_file(name: str) -> bool:
    """Whether `name` can only be meant as a file: it has no blanks, and a folder or a suffix."""
    from layerscope.corpus.reading import KINDS

    suffix = Path(name.removesuffix(".gz")).suffix.lower()
    return not any(x.isspace() for x in name) and (
        suffix in (*KINDS, ".safetensors") or "/" in name or os.sep in name
    )


def loaded_or_store(source: str, data: str | None, device: str | None) -> Any:
    """The store in that folder, else the model.

    Raises:
        ValueError: data given with a store, or a device that is not there.
        OSError: neither a store nor a model is there.
    """
    if not (Path(source) / "store.json").is_file():
        try:
            return loaded(source, device)
        except OSError as error:
            if Path(source).exists():
                raise
            raise OSError(f"{error}; or of a store, as dump writes them") from error
    usable(device)
    if data is not None:
        raise ValueError(f"{source} is a store, which brings its own rows; leave {data!r} out")
    from layerscope.store import Store

    return Store.open(source)


def sites(text: str) -> int | str | Sequence[int | str]:
    """``"embed,3,-1"`` as a list; ints stay ints, and what stands alone is not a list.

    >>> sites("embed,3,-1"), sites("all"), sites("2")
    (['embed', 3, -1], 'all', 2)
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    found = [int(name) if name.lstrip("-").isdigit() else name for name in names]
    return found[0] if len(found) == 1 else found
