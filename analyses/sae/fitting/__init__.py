"""How SAEs are trained: one group at a time, resumable to the bit; see `loop.py` for the order."""
