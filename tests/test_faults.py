"""Many kills, two runs at once, damage everywhere, a full disk: nothing that was published is lost, nothing is wrong."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import studies
from studies import assert_same_data, finish, running, shards_of, wait_until

import mcrace
from mcrace import store
from mcrace.errors import ResultsError

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def intact(directory: Path, before: dict[Path, bytes]) -> dict[Path, bytes]:
    """The shards of a directory, after a look that those that were there are as they were, and that all are whole."""
    now = shards_of(directory)
    assert {path: now.get(path) for path in before} == before
    for path in now.keys() - before.keys():
        store.check_seal(path)
    return now


# ------------------------------------------------------------------------------------------------- kills


def wait_for_shards(directory: Path, count: int, process: subprocess.Popen) -> bool:
    """Wait until a directory holds so many shards, or the process has ended."""
    return wait_until(lambda: process.poll() is not None or len(shards_of(directory)) >= count)


def test_twenty_kills(reference, tmp_path, study_file):
    """At random moments: some by the clock, from the start of Python on, some by the number of shards."""
    directory = tmp_path / "run"
    arguments = "run", study_file(studies.race()), "-o", directory, "--shard-size", 2
    rng = np.random.default_rng(20)
    published: dict[Path, bytes] = {}
    kills = 0
    for turn in range(20):
        workers = 2 * (turn % 4 == 3)
        with running(*arguments, "--workers", workers) as process:
            if turn % 2:
                wait_for_shards(directory, len(published) + int(rng.integers(0, 6)), process)
                time.sleep(rng.uniform(0, 0.02))
            else:
                time.sleep(rng.uniform(0.2, 4.0))
            kills += process.poll() is None
            process.kill()
            process.wait()
        published = intact(directory, published)
    assert kills >= 10
    assert len(published) > 10
    assert finish(*arguments, "--workers", 2, "--quiet").returncode == 0
    intact(directory, published)
    assert_same_data(directory, reference.path)


def test_killed_while_merging(reference, tmp_path, study_file):
    """There is no results file until it is whole."""
    directory = tmp_path / "run"
    shutil.copytree(reference.path.parent, directory)
    (directory / "results.h5").unlink()
    before = shards_of(directory)
    arguments = "run", study_file(studies.race()), "-o", directory, "--workers", 0
    rng = np.random.default_rng(4)
    for _ in range(5):
        with running(*arguments) as process:
            assert wait_until(lambda: process.poll() is not None or any(directory.glob(".results.h5.*.tmp")))
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
            process.wait()
        assert shards_of(directory) == before
        if (directory / "results.h5").exists():
            mcrace.open_results(directory)
            (directory / "results.h5").unlink()
    assert finish(*arguments, "--quiet").returncode == 0
    assert_same_data(directory, reference.path)


def test_killed_workers(reference, tmp_path, study_file):
    """A worker that is killed from outside costs a retry at most, not the run."""
    directory = tmp_path / "run"
    arguments = "run", study_file(studies.race()), "-o", directory, "--shard-size", 1, "--workers", 2
    with running(*arguments) as process:
        assert wait_until(lambda: len(shards_of(directory)) >= 5)
        workers = [p for p in process.family() if "spawn_main" in " ".join(p.cmdline())]
        assert workers
        workers[0].kill()
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert_same_data(directory, reference.path)


def test_two_at_once(reference, tmp_path, study_file):
    directory = tmp_path / "run"
    arguments = "run", study_file(studies.race()), "-o", directory, "--shard-size", 2, "--quiet", "--workers"
    with running(*arguments, 0) as one, running(*arguments, 0) as other:
        for process in (one, other):
            _, err = process.communicate(timeout=120)
            assert (process.returncode, err) == (0, "")
    assert_same_data(directory, reference.path)
    assert not list(directory.rglob("*.tmp"))


# ------------------------------------------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A shard with weights and several observables, and its cell's identity."""
    text = studies.race(24, weights='"all"').partition("[predictions]")[0]
    directory = tmp_path_factory.mktemp("damage") / "run"
    mcrace.run(mcrace.parse_study(text), directory, workers=0, only="main")
    (path,) = shards_of(directory)
    with h5py.File(path) as file:
        return path, file.attrs["identity"]


def complaint(path: Path, identity: str, data: bytes) -> str:
    """What is said of a shard of some bytes."""
    path.write_bytes(data)
    with pytest.raises(ResultsError) as raised:
        store.read_shard(path, identity)
    assert str(raised.value).startswith(f"{path}: ")
    return str(raised.value)


def resealed(data: bytes) -> bytes:
    """Bytes with a right seal, so that what comes after the look at the seal is tested."""
    body = data[: -store.SEAL_BYTES]
    return body + store.SEAL + hashlib.sha256(body).digest()


def flipped(data: bytes, *places: int) -> bytes:
    """Bytes with a bit flipped at some places."""
    wrong = bytearray(data)
    for place in places:
        wrong[place] ^= 4
    return bytes(wrong)


def stored_at(data: h5py.Dataset) -> tuple[int, int]:
    """Where the first values of a dataset lie in its file, and how many bytes."""
    if data.chunks:
        chunk = data.id.get_chunk_info(0)
        return chunk.byte_offset, chunk.size
    return data.id.get_offset(), data.id.get_storage_size()


def test_truncated_at_every_512th_byte(shard, tmp_path):
    path, identity = shard
    whole = path.read_bytes()
    for length in range(0, len(whole), 512):
        assert "is truncated" in complaint(tmp_path / "x.h5", identity, whole[:length])


def test_truncated_results_at_every_512th_byte(reference, tmp_path):
    """These are looked at by HDF5 alone where the seal is gone with the end."""
    whole, path = reference.path.read_bytes(), tmp_path / "results.h5"
    for length in range(0, len(whole), 512):
        path.write_bytes(whole[:length])
        with pytest.raises(ResultsError, match=f"^{path}: is (truncated|no HDF5 file)"):
            mcrace.open_results(path)


def test_a_flipped_bit_in_each_dataset(shard, tmp_path):
    path, identity = shard
    whole = path.read_bytes()
    with h5py.File(path) as file:
        places = {name: stored_at(data) for name, data in file.items() if data.dtype.kind != "O"}
    assert {"loss", "W", "seed", "neuron", "status"} <= places.keys()
    for name, (offset, size) in places.items():
        for place in (offset, offset + size // 2, offset + size - 1):
            wrong = flipped(whole, place)
            assert "is damaged: its bytes do not match" in complaint(tmp_path / "x.h5", identity, wrong)
            said = complaint(tmp_path / "x.h5", identity, resealed(wrong))
            assert f"/{name} cannot be read" in said or f"/{name} is damaged" in said


def test_a_flipped_bit_in_each_attribute(shard, tmp_path):
    """Texts are found by their bytes, which may be in the file more than once."""
    path, identity = shard
    whole = path.read_bytes()
    with h5py.File(path) as file:
        texts = {("/", key): value for key, value in file.attrs.items() if isinstance(value, str)}
        for name, data in file.items():
            texts |= {(name, k): v for k, v in data.attrs.items() if isinstance(v, str) and len(v) > 3}
    assert {("/", "versions"), ("loss", "description"), ("loss", "digest"), ("/", "attributes_digest")} <= texts.keys()
    for (where, key), value in texts.items():
        if not value:
            continue
        places, place = [], whole.find(value.encode())
        while place >= 0:
            places.append(place)
            place = whole.find(value.encode(), place + 1)
        assert places, (where, key)
        wrong = flipped(whole, *places)
        assert "is damaged: its bytes do not match" in complaint(tmp_path / "x.h5", identity, wrong)
        said = complaint(tmp_path / "x.h5", identity, resealed(wrong))
        assert "the attributes of / are damaged" in said, (where, key, said)


# ------------------------------------------------------------------------------------------------- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", place], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no command mount")
@pytest.mark.parametrize("workers", [0, 2])
def test_full_disk(reference, study_file, small_disk, workers):
    arguments = "run", study_file(studies.race()), "-o", small_disk / "run", "--shard-size", 5, "--quiet"
    full = finish(*arguments, "--workers", workers)
    assert full.returncode == 1, full
    assert "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    published = intact(small_disk / "run", {})
    assert 0 < len(published) < 24
    assert not list(small_disk.rglob("*.tmp"))
    os.sync()
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    assert finish(*arguments, "--workers", 0).returncode == 0
    intact(small_disk / "run", published)
    assert_same_data(small_disk / "run", reference.path)
