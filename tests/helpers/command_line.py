"""The command line in this process: exit code, standard output, standard error."""

import sys
from dataclasses import dataclass

from reelmill.pipelines import cli


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class CommandLine:
    """Calls `reelmill ARGUMENTS`; an exception that would be a traceback passes through and fails the test."""

    def __init__(self, monkeypatch, capsys):
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments):
        self._monkeypatch.setattr(sys, "argv", ["reelmill", *map(str, arguments)])
        self._capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        found = self._capsys.readouterr()
        return Ended(code, found.out, found.err)
