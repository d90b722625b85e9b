"""The one exception of this package that is meant for the person at the keyboard."""


class ODEvalError(Exception):
    """Something the user can put right.

    The message is one sentence (or a few lines, where several things must be named) that says what is
    wrong, where (file, line, record, field) and what to do. Programs print it and exit with status 1;
    no traceback is needed to understand it.
    """


def describe(error: BaseException) -> str:
    """An error in a line of somebody's output: its sentence, with the type of one that is not for the user."""
    return str(error) if isinstance(error, ODEvalError) else f"{type(error).__name__}: {error}"
