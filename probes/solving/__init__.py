"""Rows laid out for cross-validation, and the solvers that many probes share."""
