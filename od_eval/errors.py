"""The exception of this package that is meant for users."""


class ODEvalError(Exception):
    """Something the user can fix.

    The message is one sentence (or a few lines if several things must be named) that says what is
    wrong, where (file, line, record, field) and what to do. Programs print it and exit with `exit_status`;
    it can be understood without a traceback.
    """

    exit_status = 1


class TemporaryError(ODEvalError):
    """Something that trying again mends: the status is `EX_TEMPFAIL`, by which a scheduler knows to start again."""

    exit_status = 75


def describe(error: BaseException) -> str:
    """An error as one line of output: its message, preceded by its type if it is not an `ODEvalError`."""
    return str(error) if isinstance(error, ODEvalError) else f"{type(error).__name__}: {error}"
