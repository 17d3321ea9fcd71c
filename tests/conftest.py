"""What several tests share: results of a small study, and the command line within this process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import studies

import mcrace
from mcrace import cli


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> mcrace.Results:
    """The small study, in this process and in the shards that it chooses; tests leave it as it is."""
    directory = tmp_path_factory.mktemp("reference") / "run"
    return mcrace.run(mcrace.parse_study(studies.race()), directory, workers=0)


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[[str], Path]:
    """Puts the text of a study into a file."""

    def write(text: str) -> Path:
        path = tmp_path / "study.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def signals() -> Iterator[None]:
    """Signals are handled afterwards as before."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], signals: None
) -> Callable[..., Answer]:
    """The command line within this process, which is fast."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["mcrace", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Answer(code, *capsys.readouterr())

    return call
