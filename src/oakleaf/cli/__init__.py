"""The commands: train, sample, translate, evaluate, export and theory.

`commands` has their entry points. Each other module has a `main`, which they call, and a function that takes the
composed configuration. Modules here import torch only inside these functions, after the command line was understood, so
that `--help` and the answer to a typo come at once.
"""
