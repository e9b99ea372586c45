"""Frozen readouts, one per file: what a fitted probe is, applied, saved and loaded."""
