"""How a site is written while the model runs."""
