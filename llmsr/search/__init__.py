"""Evolutionary search: populations that decide what the next prompt shows, and the loop around them."""
