"""Parts of the analyses that patch: interchange, tracing, knock-out, attribution."""
