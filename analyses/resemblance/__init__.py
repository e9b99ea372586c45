"""Parts of `similarity`: rows of several stores matched, pairs of sites measured, maps drawn."""
