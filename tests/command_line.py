"""The command line, run in this process."""

import sys

import pytest

from pipelines import cli

__all__ = ["run"]


def run(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `negclip` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["negclip", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err
