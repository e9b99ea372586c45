"""Probes of contrasts: between two sides of a statement, and between start and end of a trace."""
