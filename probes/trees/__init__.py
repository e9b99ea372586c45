"""Trees of words: how they are read from a store, predicted from activations, scored and drawn."""
