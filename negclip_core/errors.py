"""What can go wrong, and the exit code the command line gives it.

NegclipError
├── RequestError     the request or an input is wrong: exit 2, nothing was written
└── UnfinishedWork   the work failed part-way: exit 1, the message says how to resume
"""

__all__ = ["NegclipError", "RequestError", "UnfinishedWork", "reason_of"]


class NegclipError(Exception):
    """One line for a person: what is wrong, where, and what to do."""

    exit_code = 1


class RequestError(NegclipError):
    """The request or an input file is wrong; nothing has been written."""

    exit_code = 2


class UnfinishedWork(NegclipError):
    """Work stopped part-way; what was finished is kept and the message says how to go on."""


def reason_of(error: BaseException) -> str:
    """What another library raised, as a part of one line: its kind and the beginning of what it says."""
    line, _, _ = str(error).strip().partition("\n")
    return f"{type(error).__name__}: {line[:160]}"
