"""What a person did wrong, said in one sentence."""


class Mistake(Exception):
    """A user's mistake. The message is the whole answer: what is wrong, and what to do instead.

    The command line prints it alone and ends with exit code 1 (`oakleaf.cli.door`).
    """
