"""How an anatomy is found, checked and shown."""
