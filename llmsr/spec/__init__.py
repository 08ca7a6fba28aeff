"""Spec files: reading LLM-SR's format, knowing its usual objective, writing new ones."""
