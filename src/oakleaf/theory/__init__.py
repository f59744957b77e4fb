"""The theory lab: what the papers prove, measured with the framework's own objectives, penalties and games.

This package is a demonstration. Only `oakleaf.cli.theory` (`theory.py` on the command line) may import it; nothing of
the framework depends on it. It may import everything of the framework except `oakleaf.cli` and `oakleaf.sweeps`.

Each lab is one module with one dataclass: its fields are its configuration (`conf/lab/`), and its `run` returns a
`LabResult` with a table, a figure and checks (`result`). `docs/theory.md` describes the labs and their results.
"""
