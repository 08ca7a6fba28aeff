"""Refinement: better structures out of a fitted equation and its residual, without a language model."""
