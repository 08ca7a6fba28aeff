"""LLM-SR with reinforcement learning: language models propose equations, data decides."""

__version__ = "0.1.0"
