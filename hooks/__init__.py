"""At the model: find its parts, read them, and bring what was read to disk."""
