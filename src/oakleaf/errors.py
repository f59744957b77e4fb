"""What a person did wrong, said in one sentence."""


class UserError(Exception):
    """A user's mistake. The message is the whole answer: what is wrong, and what to do instead.

    The command line prints it alone and ends with exit code 1 (`oakleaf.cli.main`).
    """


def first_line(error: BaseException) -> str:
    """What another library's error says first, 200 letters at most; its kind, where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def one_line(error: BaseException) -> str:
    """All that it says as one line, 200 letters at most."""
    return " ".join(str(error).split())[:200]
