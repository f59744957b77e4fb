"""python evaluate.py checkpoint=outputs/dcgan-celeba/..."""

from oakleaf.cli.evaluate import main

if __name__ == "__main__":
    main()
