"""Check a piece of theory by running it: `python theory.py lab=dirac`; `python theory.py --help` shows the labs."""

from oakleaf.cli.theory import main

if __name__ == "__main__":
    main()
