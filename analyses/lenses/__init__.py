"""Parts of the lenses."""
