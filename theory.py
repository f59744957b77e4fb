"""Check a piece of theory by running it: `python theory.py lab=dirac`; `python theory.py --help` shows the labs."""

from oakleaf.cli.commands import theory

if __name__ == "__main__":
    theory()
