"""Codelengths of labels, given activations: how much effort a probe needs."""
