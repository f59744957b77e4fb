"""Explore a trained generator in the browser: `python explore.py checkpoint=RUN`."""

from oakleaf.cli.commands import explore

if __name__ == "__main__":
    explore()
