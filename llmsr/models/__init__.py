"""Language models in this process: loaded, asked in tokens, sampled from, and their probabilities."""
