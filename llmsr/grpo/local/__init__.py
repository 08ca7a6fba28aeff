"""GRPO in one process, for machines without a cluster."""
