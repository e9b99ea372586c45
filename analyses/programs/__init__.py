"""Parts of `layer_programs`."""
