"""Small studies for the tests, how to compare what came of them, and how to run the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import psutil

TOKEN = "MCRACE_TEST_TOKEN"  # in the environment of a command and of all that it starts
COMMAND = [str(Path(sys.executable).with_name("mcrace"))]  # the console script


def race(seeds: int = 40, more: str = "", **changes: str) -> str:
    """The text of a small study with both predictions and a lazy, paired control.

    Parameters
    ----------
    more : str
        What is added at the end.
    changes : str
        TOML values in place of those here: dimension, hidden, steps, loss, ...
    """
    values = {"name": '"small"', "entropy": "11", "samples": "20", "dimension": "5", "fresh": "true",
              "loss": '"logistic"', "hidden": "[8]", "scale": "1e-2", "step_size": "0.5", "steps": "300",
              "until": "{ loss_drop = 0.9 }", "dtype": '"float32"', "times": '{ spacing = "log", count = 12 }',
              "weights": '"none"', "observables": '["loss", "accuracy"]'} | changes
    v = values
    return f"""
[study]
name = {v["name"]}
seeds = {seeds}
entropy = {v["entropy"]}

[task]
kind = "gaussian"
samples = {v["samples"]}
dimension = {v["dimension"]}
fresh = {v["fresh"]}
loss = {v["loss"]}

[network]
hidden = {v["hidden"]}
init = {{ scale = {v["scale"]} }}

[training]
step_size = {v["step_size"]}
steps = {v["steps"]}
until = {v["until"]}
dtype = {v["dtype"]}

[record]
times = {v["times"]}
observables = {v["observables"]}
weights = {v["weights"]}

[[cells]]
name = "lazy"
"network.init.scale" = 1.0
"network.init.paired" = true

[predictions]
racing = {{ control = "lazy" }}
mutual-alignment = {{ control = "lazy" }}
{more}
"""


def diverging(seeds: int = 40, **changes: str) -> str:
    """A study in which some networks diverge and others do not: a step that is too large for some of the samples."""
    return race(seeds, **({"loss": '"mse"', "scale": "0.5", "step_size": "4.5", "steps": "200",
                           "until": "{ loss_drop = 0.999 }", "samples": "16"} | changes))


# ------------------------------------------------------------------------------------------------- comparing


def data_of(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Type, shape and bytes of every dataset of the cells of a results file, read with h5py alone."""
    found = {}

    def look(name: str, thing: object) -> None:
        if isinstance(thing, h5py.Dataset):
            values = thing.asstr()[()] if h5py.check_string_dtype(thing.dtype) else thing[()]
            values = np.asarray(values)
            data = repr(values.tolist()).encode() if values.dtype == object else values.tobytes()
            found[name] = str(values.dtype), values.shape, data

    with h5py.File(path / "results.h5" if path.is_dir() else path) as file:
        file["cells"].visititems(look)
    return found


def assert_same_data(one: Path, other: Path) -> None:
    """Every dataset of two results files is the same, bit for bit."""
    a, b = data_of(one), data_of(other)
    assert a, f"{one} holds no data"
    assert a.keys() == b.keys()
    different = [name for name in a if a[name] != b[name]]
    assert not different, f"{one} and {other} differ in {different}"


def shards_of(directory: Path) -> dict[Path, bytes]:
    """The published shards of a results directory with their bytes."""
    return {path: path.read_bytes() for path in sorted(directory.glob("shards/*/*.h5"))}


def tree(directory: Path) -> dict[str, bytes]:
    """All files below a directory with their bytes."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


# ------------------------------------------------------------------------------------------------- running


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Look again and again whether a condition holds; False if it does not before the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def marked(token: str) -> list[psutil.Process]:
    """All processes that carry a token in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TOKEN) == token and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


class Running(subprocess.Popen):
    """A command in a session of its own, with a token by which all that it starts is found again."""

    def __init__(self, *arguments: object, command: list[str] = COMMAND, cwd: Path | None = None,
                 env: dict[str, str] | None = None) -> None:
        self.token = uuid.uuid4().hex
        super().__init__([*command, *map(str, arguments)], cwd=cwd, start_new_session=True, text=True,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env={**os.environ, **(env or {}), TOKEN: self.token})

    def family(self) -> list[psutil.Process]:
        """The command and all that it started, as far as they live."""
        return marked(self.token)


@contextmanager
def running(*arguments: object, **options: object) -> Iterator[Running]:
    """A command, which is gone with all its children at the end."""
    process = Running(*arguments, **options)
    try:
        yield process
    finally:
        for left in process.family():
            left.send_signal(signal.SIGKILL)
        process.communicate()


def finish(*arguments: object, seconds: float = 120.0, **options: object) -> subprocess.CompletedProcess:
    """Run a command to its end."""
    with running(*arguments, **options) as process:
        out, err = process.communicate(timeout=seconds)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def kill_at(shards: int, delay: float, directory: Path, *arguments: object) -> int:
    """Start a command, and kill it some seconds after its directory holds so many shards; returns its exit code."""
    with running(*arguments) as process:
        wait_until(lambda: len(list(directory.glob("shards/*/*.h5"))) >= shards or process.poll() is not None)
        time.sleep(delay)
        process.kill()
        return process.wait()
