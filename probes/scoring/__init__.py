"""A label read from each site: cross-validated scores, controls, intervals and cautions."""
