"""Commands for the person who runs the workers: what has to be there before them, and what can be seen of them.

One module per verb of `python -m operations`; it may use everything of `extractors`, which knows nothing of it. The
module of a verb has two functions: `add_arguments(parser)`, and `run(options)`, which returns the exit code.
"""
