"""Parts of `word_classes` and `clusters`: scores, null draws, maps, and how they are drawn."""
