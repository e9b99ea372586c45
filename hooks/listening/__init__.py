"""How a site is heard while the model runs."""
