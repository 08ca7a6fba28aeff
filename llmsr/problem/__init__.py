"""A problem: its table of columns and splits, its spec file, and what counts as least squares."""
