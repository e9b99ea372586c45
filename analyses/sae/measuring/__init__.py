"""Numbers that say how good a sparse autoencoder is, each with its definition."""
