"""Ctrl-C, SIGTERM, and the SIGUSR1 of a batch system before its time limit end a command in order, wherever it is."""

from __future__ import annotations

import signal
import time
from types import FrameType

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1
REQUEUE = 85  # exit code that asks a batch system to queue the job again
DELICATE = "/h5py/", "/mcrace/store.py", "/weakref.py"  # where an exception is lost, or breaks a lock of HDF5
LATER_SECONDS = 0.01
ECHO_SECONDS = 1.0


class Interrupted(BaseException):
    """A signal asked to end; not KeyboardInterrupt, of which typer makes an exit without a word."""

    def __init__(self, number: int) -> None:
        super().__init__("told to make way" if number == signal.SIGUSR1 else "interrupted")
        self.exit_code = REQUEUE if number == signal.SIGUSR1 else 128 + number


def watch() -> None:
    """Raise `Interrupted` in the main thread at the first signal; a second one ends the process at once.

    Not so within a second: a batch system signals a script and all that it started, and the script passes it on.
    """
    for number in SIGNALS:
        signal.signal(number, _received)


def _received(number: int, frame: FrameType | None) -> None:
    began = time.monotonic()

    def again(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - began > ECHO_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for each in SIGNALS:
        signal.signal(each, again)
    _raise_where_safe(number, frame)


def _raise_where_safe(number: int, frame: FrameType | None) -> None:
    """Raise, or look again a little later."""
    if _delicate(frame):
        signal.signal(signal.SIGALRM, lambda _, frame: _raise_where_safe(number, frame))
        signal.setitimer(signal.ITIMER_REAL, LATER_SECONDS)
    else:
        raise Interrupted(number)


def _delicate(frame: FrameType | None) -> bool:
    while frame:
        if any(part in frame.f_code.co_filename for part in DELICATE):
            return True
        frame = frame.f_back
    return False
