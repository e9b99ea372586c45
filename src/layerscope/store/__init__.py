"""Activations on disk: a folder of shards with a key, read lazily. docs/store.md has the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerscope.lazy import lazy

if TYPE_CHECKING:
    from layerscope.store.contents import StoreFinding as StoreFinding
    from layerscope.store.errors import CorruptShard as CorruptShard
    from layerscope.store.errors import StoreMismatch as StoreMismatch
    from layerscope.store.identity import identity_of as identity_of
    from layerscope.store.identity import tokenizer_identity as tokenizer_identity
    from layerscope.store.key import default_folder as default_folder
    from layerscope.store.key import differences as differences
    from layerscope.store.key import key_of as key_of
    from layerscope.store.layout import SiteSpec as SiteSpec
    from layerscope.store.store import Store as Store
    from layerscope.store.view import SiteView as SiteView

__all__ = [  # noqa: RUF022  (the order of use)
    "Store",
    "SiteView",
    "SiteSpec",
    "StoreFinding",
    "StoreMismatch",
    "CorruptShard",
    "identity_of",
    "tokenizer_identity",
    "key_of",
    "differences",
    "default_folder",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "CorruptShard": ".errors",
        "SiteSpec": ".layout",
        "SiteView": ".view",
        "Store": ".store",
        "StoreFinding": ".contents",
        "StoreMismatch": ".errors",
        "default_folder": ".key",
        "differences": ".key",
        "identity_of": ".identity",
        "key_of": ".key",
        "tokenizer_identity": ".identity",
    },
)
