"""Random equation skeletons and random edits of them, without any language model.

`random_body` draws a function body from a general grammar of scientific forms; `mutate` changes a given body
a little, or combines it with a second one. Together they are a proposer that knows no problem, reads no
docstring and learns nothing: the baseline that a language model has to beat. The same grammar generates the
training text of skeleton-lm.
"""

from llmsr.proposers.grammar.proposer import mutate, random_body

__all__ = ["mutate", "random_body"]
