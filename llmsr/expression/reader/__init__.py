"""Reading a function body: an interpreter of a Python subset whose values are nodes of a graph.

`parse` is the door. Nothing that it reads is executed: there is no `eval`, no `exec` and no import of what a
text names, and every step is bounded in time and memory (`limits`).
"""
