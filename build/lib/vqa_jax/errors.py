"""The parent of every error that a person is told as a message, without a traceback."""


class VqaError(Exception):
    """Something that a person can mend; the message says what is wrong, and the remedy.

    Every typed error of the package and of its preparation is one. Where callers may expect a
    ValueError or a RuntimeError, the typed error is that too.
    """
