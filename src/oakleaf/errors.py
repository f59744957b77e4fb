"""The error that a user can correct, and other libraries' errors shortened to one line."""


class UserError(Exception):
    """An error that the user can correct: a wrong option, a missing file, a full disk.

    The message is one complete sentence that says what is wrong and what to do. The command line prints it without a
    traceback and ends with exit code 1 (`oakleaf.cli.main`). Every other exception is taken for a bug and keeps its
    traceback.

    Example:
        raise UserError(f"{path}: there is no such file or folder")
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters; its class name if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def one_line(error: BaseException) -> str:
    """Return an error's whole message on one line, at most 200 characters."""
    return " ".join(str(error).split())[:200]
