"""How a recorded pass is continued from any block."""
