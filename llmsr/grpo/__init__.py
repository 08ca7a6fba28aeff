"""GRPO: the language model itself is trained on what its equations are worth."""
