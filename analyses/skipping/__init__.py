"""Parts of the analyses that leave blocks out: similarity, drop, skip, windows."""
