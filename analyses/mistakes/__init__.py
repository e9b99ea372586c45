"""Parts of `label_errors` and `slices`."""
