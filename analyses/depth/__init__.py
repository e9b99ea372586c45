"""Parts of the analyses of how depth is used."""
