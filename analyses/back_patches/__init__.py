"""Parts of `back_patching`."""
