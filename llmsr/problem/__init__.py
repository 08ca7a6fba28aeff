"""A problem: its columns and splits, read from CSV files or made of arrays."""
