"""Draw from a trained generator: `python sample.py checkpoint=RUN`; `python sample.py --help` shows the modes."""

from oakleaf.cli.commands import sample

if __name__ == "__main__":
    sample()
