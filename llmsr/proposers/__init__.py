"""Proposers: where completions come from, each behind the same three methods."""
