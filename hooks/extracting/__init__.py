"""From a corpus to the shards of a store."""
