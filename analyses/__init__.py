"""One question per file; each returns a finding."""
