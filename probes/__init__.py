"""Fit a readout on stored rows, beside the controls that say what it means."""
