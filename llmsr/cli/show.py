"""`python -m llmsr show DIR`: the front and the best equation of a run in the terminal."""

from llmsr.cli.report import show as main

__all__ = ["main"]
