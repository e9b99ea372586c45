"""What can be wrong with a store, as classes a caller may catch."""

from __future__ import annotations


class StoreMismatch(ValueError):
    """The folder holds a store with another key: other weights, texts, tokenizer, sites or dtype."""


class CorruptShard(ValueError):
    """A shard file is truncated, altered, foreign, or its partner is missing; names file and remedy."""
