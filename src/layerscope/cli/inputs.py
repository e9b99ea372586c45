"""What a user typed, as models, texts and layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerscope.corpus import Corpus, Samples


def loaded(name: str, device: str | None) -> Any:
    """The model."""
    from layerscope.hooks.load import load_model

    return load_model(name, device=device)


def texts(data: str, text: str | None, group: str | None, limit: int | None) -> Corpus | Samples:
    """The texts, or the first `limit` of them."""
    from layerscope.corpus import Corpus, read

    corpus = read(data, text=text, group=group)
    return corpus.take(limit) if limit is not None and isinstance(corpus, Corpus) else corpus


def loaded_or_store(source: str, data: str | None, device: str | None) -> Any:
    """The store in that folder, else the model.

    Raises:
        ValueError: data given with a store.
    """
    if not (Path(source) / "store.json").is_file():
        return loaded(source, device)
    if data is not None:
        raise ValueError(f"{source} is a store, which brings its own rows; leave {data!r} out")
    from layerscope.store import Store

    return Store.open(source)


def sites(text: str) -> Sequence[int | str]:
    """``"embed,3,-1"`` as a list; ints stay ints."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    return [int(name) if name.lstrip("-").isdigit() else name for name in names]
