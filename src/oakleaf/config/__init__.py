"""What a configuration may contain, and the checks before anything is built from it.

`types` has the value ranges for annotations, `validate` compares a configuration with the signatures of the classes
that it names, `allowlist` decides which classes those may be, `suggest` words the answers to unknown options, and
`paths` finds `conf/`.

The package may import `oakleaf.errors` and pydantic, and nothing else of Oakleaf; the classes that a configuration
names are imported by name. It does not import torch when it is imported, so that `--help` and the answer to a typing
mistake come without the seconds which that takes.
"""
