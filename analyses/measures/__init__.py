"""Numbers that matrices of rows have: distances, spectra, dimensions, similarities.

Everything here takes tensors and gives tensors or floats; no store, no model, no finding.
"""
