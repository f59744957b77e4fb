"""python evaluate.py checkpoint=outputs/dcgan-celeba/..."""

from oakleaf.cli.commands import evaluate

if __name__ == "__main__":
    evaluate()
