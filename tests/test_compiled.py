"""Compiled code is kept where it belongs, does not go stale, and heals where it is damaged."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from pathlib import Path

import pytest
import studies

from mcrace import compiled

# prints the numbers, then how many functions were compiled: 0 where all came from the cache
SCRIPT = """
from mcrace import seeds
print(seeds.Stream(3, "init", 1).words(2).tolist())
print(sum(f.stats.cache_misses[k] for f in (seeds.philox, seeds._multiply) for k in f.stats.cache_misses))
"""


def words(cache: Path) -> tuple[str, int]:
    """Random words by a process with a cache of its own, and how many functions it had to compile."""
    answer = studies.finish("-c", SCRIPT, command=[sys.executable], env={"NUMBA_CACHE_DIR": str(cache)})
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    numbers, missed = answer.stdout.splitlines()
    return numbers, int(missed)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache with code in it, and the words."""
    cache = tmp_path_factory.mktemp("cache")
    numbers, missed = words(cache)
    assert missed > 0
    assert words(cache) == (numbers, 0)
    return cache, numbers


def truncated(data: bytes) -> bytes:
    """Half of the file."""
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    """One bit is another, in the machine code or in the index."""
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]


def empty(_: bytes) -> bytes:
    """Nothing."""
    return b""


@pytest.mark.parametrize(("kind", "damage"), [
    (".nbi", truncated), (".nbc", truncated), (".nbc", flipped),
    *(pytest.param(kind, damage, marks=pytest.mark.faults) for kind, damage in ((".nbi", flipped), (".nbi", empty),
                                                                               (".nbc", empty)))])
def test_damaged_files_heal(filled, tmp_path, kind, damage):
    source, numbers = filled
    cache = Path(shutil.copytree(source, tmp_path / "cache"))
    files = sorted(cache.rglob(f"*{kind}"))
    assert files
    for file in files:
        file.write_bytes(damage(file.read_bytes()))
    found, missed = words(cache)
    assert found == numbers
    assert missed > 0
    assert words(cache) == (numbers, 0)


def test_other_text_of_a_kernel_is_another_folder(tmp_path, monkeypatch):
    """Numba looks at a function's own file only; what it calls may have changed in another."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    copy = Path(shutil.copytree(compiled.HERE, tmp_path / "mcrace", ignore=shutil.ignore_patterns("__pycache__")))
    monkeypatch.setattr(compiled, "HERE", copy)
    folder = compiled.cache_directory.__wrapped__
    before = folder()
    assert before.is_relative_to(tmp_path / "cache")
    assert folder() == before
    kernel = sorted((copy / "kernels").glob("*.py"))[-1]
    text = kernel.read_text()
    kernel.write_text(text + "# other\n")
    assert folder() != before
    kernel.write_text(text)
    assert folder() == before
    (copy / "kernels" / "new.py").touch()
    assert folder() != before
    (copy / "kernels" / "new.py").unlink()
    monkeypatch.setattr(compiled.numba, "__version__", "0.0")
    assert folder() != before


def test_cache_that_cannot_be_written_is_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    found = compiled.cache_directory.__wrapped__()
    assert found.is_relative_to(tmp_path / "temporary")
    assert found.stat().st_mode & 0o077 == 0


def test_processes_that_compile_at_the_same_time_do_not_mix_their_code(tmp_path):
    """One reads the index before the other writes it, and its own is overwritten."""
    one, two = (compiled._Files(str(tmp_path), "f", "stamp") for _ in range(2))
    two._load_index, two._save_index = dict, lambda overloads: None
    one.save("for float32", 1)
    two.save("for float64", 2)
    assert one.load("for float32") == 1
    assert one.load("for float64") is None


def test_nan_stays_nan():
    """No flag lets the compiler assume that there are none, and a division by zero is no error."""
    @compiled.compiled
    def ratio(x, y):
        return x / y if x == x else -1.0

    nan = float("nan")
    assert ratio(nan, 1.0) == -1.0
    assert ratio(1.0, 0.0) == float("inf")


def test_the_time_in_compiled_code_is_that_of_calls_from_python():
    """Of this thread alone, and once where compiled functions call each other."""
    @compiled.compiled
    def spin(rounds):
        total = 0.0
        for k in range(rounds):
            total += 1.0 / (1.0 + total * k)
        return total

    @compiled.compiled
    def twice(rounds):
        return spin(rounds) + spin(rounds)

    twice(1)
    before, began = compiled.seconds_in_compiled_code(), time.perf_counter()
    twice(10**6)
    spent, wall = compiled.seconds_in_compiled_code() - before, time.perf_counter() - began
    assert 0.5 * wall < spent <= wall
    elsewhere = []
    thread = threading.Thread(target=lambda: (twice(10**6), elsewhere.append(compiled.seconds_in_compiled_code())))
    thread.start()
    thread.join()
    assert elsewhere[0] > 0
    assert compiled.seconds_in_compiled_code() - before == spent
