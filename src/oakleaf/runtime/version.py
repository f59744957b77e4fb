"""The version of Oakleaf, for protocols, model cards and checkpoints."""

VERSION = "0.2.0"
