"""From what a model answers to the text of one function body."""
