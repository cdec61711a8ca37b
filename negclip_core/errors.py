"""What can go wrong, and the exit code the command line gives it.

NegclipError
├── RequestError     the request or an input is wrong: exit 2, nothing was written
└── UnfinishedWork   the work failed part-way: exit 1, the message says how to resume
"""

__all__ = ["NegclipError", "RequestError", "UnfinishedWork", "reason_of"]


_LONGEST = 480  # characters of a line


class NegclipError(Exception):
    """One line for a person: what is wrong, where, and what to do.

    What files and libraries have put into it cannot break the line, steer a terminal or fill it: white space is one space, what
    does not print is escaped, and of a line that is too long the middle is left out.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(_one_line(message))


class RequestError(NegclipError):
    """The request or an input file is wrong; nothing has been written."""

    exit_code = 2


class UnfinishedWork(NegclipError):
    """Work stopped part-way; what was finished is kept and the message says how to go on."""


def _one_line(message: str) -> str:
    # Longer ones are not looked at whole: a file's content may be in there.
    words = " ".join(f"{message[:100_000]}".split())
    line = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in words[: 4 * _LONGEST]
    )
    half = _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]} ... {line[5 - half :]}"


def reason_of(error: BaseException) -> str:
    """What another library raised, as a part of one line: its kind and the beginning of what it says."""
    line, _, _ = str(error).strip().partition("\n")
    return f"{type(error).__name__}: {line[:160]}"
