"""Many kills, two runs at once, damage everywhere, a full disk: nothing that was published is lost, nothing is wrong."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import studies
from studies import assert_same_data, finish, running, shards_of, tree, wait_until

import mcrace
from mcrace import store
from mcrace.directory import set_damaged_aside, status, study_of, survey
from mcrace.errors import ResultsError

KILLS = int(os.environ.get("MCRACE_KILLS", "20"))
pytestmark = [pytest.mark.faults, pytest.mark.timeout(600 + 30 * KILLS)]


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


def test_many_kills(reference, tmp_path, study_file):
    """MCRACE_KILLS of them, 20 by default, at random moments: some by the clock, from the start of Python on, some by the
    number of shards.  A shard that was seen once stays as it is to the end.
    """
    directory = tmp_path / "run"
    arguments = "run", study_file(studies.race()), "-o", directory, "--shard-size", 2
    rng = np.random.default_rng(20)
    published: dict[Path, bytes] = {}
    kills = 0
    for turn in range(KILLS):
        workers = 2 * (turn % 4 == 3)
        if len(published) >= 60:  # all that there is: from the start again, so that each kill finds something to do
            shutil.rmtree(directory)
            published = {}
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
    assert kills >= KILLS // 2
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


POISONOUS = """
import os, signal, sys
import mcrace
from mcrace.launch import dask_cluster

def poisonous(shard, directory):
    from mcrace.worker import run_shard
    poisoned = shard.cell == "lazy" and shard.first == 10
    return os.kill(os.getpid(), signal.SIGKILL) if poisoned else run_shard(shard, directory)

dask_cluster.run_shard = poisonous
try:
    mcrace.run(mcrace.load_study(sys.argv[1]), sys.argv[2], workers=2, shard_size=10)
except mcrace.ShardError as error:
    print(error)
"""


def test_a_shard_that_kills_its_worker_again_and_again(reference, tmp_path, study_file):
    """The others are computed, and this one is named; once it is cured, it alone is missing."""
    where = tmp_path / "run"
    done = finish(study_file(studies.race()), where, command=[sys.executable, "-c", POISONOUS])
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout
    assert said.startswith("1 of 12 shards failed; run again to try them once more\n  lazy seeds 10-19: KilledWorker")
    assert len(shards_of(where)) == 11
    lazy = status(where).cells[1]
    assert (lazy.cell.name, lazy.missing, list(lazy.failed)) == ("lazy", 10, [(10, 20)])
    mcrace.run(where, workers=0)
    assert status(where).cells[1].failed == {}
    assert_same_data(where, reference.path)


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


def answer(path: Path, identity: str, data: bytes) -> str:
    """What is said of a shard of some bytes; nothing if it is read."""
    path.write_bytes(data)
    try:
        store.read_shard(path, identity)
    except ResultsError as error:
        assert str(error).startswith(f"{path}: ")
        return str(error)
    return ""


def complaint(path: Path, identity: str, data: bytes) -> str:
    """What is said of a shard of some bytes, which must not be read."""
    said = answer(path, identity, data)
    assert said
    return said


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


def test_a_flipped_bit_in_each_dataset_is_computed_anew(reference, tmp_path, command):
    """On request: every shard is looked at, though the results file is there and right."""
    directory = tmp_path / "run"
    shutil.copytree(reference.path.parent, directory)
    (shard, whole), *_ = shards_of(directory).items()
    with h5py.File(shard) as file:
        places = [stored_at(data)[0] for data in file.values() if data.dtype.kind != "O"]
        places.append(whole.find(file.attrs["versions"].encode()))
    assert len(places) > 10
    work = survey(study_of(directory), directory)
    for place in places:
        shard.write_bytes(flipped(whole, place))
        said: list[str] = []
        assert set_damaged_aside(work, said.append)
        assert said == [f"{shard}: is damaged: its bytes do not match the seal at its end; it is set aside"]
        assert not shard.exists()
    shard.write_bytes(flipped(whole, places[0]))
    assert command("run", directory, "--workers", 0, "-q").code == 0  # the results are there: nothing is looked at
    assert shard.read_bytes() == flipped(whole, places[0])
    answer = command("run", directory, "--workers", 0, "--check")
    assert answer.code == 0
    assert f"{shard}: is damaged: its bytes do not match the seal at its end; it is set aside" in answer.out
    store.check_seal(shard)
    assert_same_data(directory, reference.path)
    assert_same_shard(shard, whole, tmp_path)


def assert_same_shard(path: Path, whole: bytes, tmp_path: Path) -> None:
    """The values of a shard are those of another's bytes."""
    (tmp_path / "other.h5").write_bytes(whole)
    (one, _), (other, _) = store.read_shard(path), store.read_shard(tmp_path / "other.h5")
    assert {n: store.digest(v.values) for n, v in one.items()} == {n: store.digest(v.values) for n, v in other.items()}


def test_a_flipped_bit_in_each_attribute(shard, tmp_path):
    """Texts are found by their bytes, which may be in the file more than once: wherever that is the text itself, it is said."""
    path, identity = shard
    whole = path.read_bytes()
    with h5py.File(path) as file:
        texts = {("/", key): value for key, value in file.attrs.items() if isinstance(value, str)}
        for name, data in file.items():
            texts |= {(name, k): v for k, v in data.attrs.items() if isinstance(v, str) and len(v) > 3}
    assert {("/", "versions"), ("loss", "description"), ("loss", "digest"), ("/", "attributes_digest")} <= texts.keys()
    body = whole[: -store.SEAL_BYTES]
    for (where, key), value in texts.items():
        if not value:
            continue
        places, place = [], body.find(value.encode())
        while place >= 0:
            places.append(place)
            place = body.find(value.encode(), place + 1)
        assert places, (where, key)
        assert "is damaged: its bytes do not match" in complaint(tmp_path / "x.h5", identity, flipped(whole, *places))
        said = [answer(tmp_path / "x.h5", identity, resealed(flipped(whole, place))) for place in places]
        assert any("the attributes of / are damaged" in line or "cannot be read" in line for line in said), (where, key, said)


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


# ------------------------------------------------------------------------------------------------- others


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no command mount")
def test_a_directory_that_can_only_be_read(reference, study_file, small_disk, tmp_path):
    """Each command that writes says so in a sentence, and those that read work."""
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    shutil.copytree(reference.path.parent, small_disk / "run")
    next(iter(shards_of(small_disk / "run"))).unlink()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    before = tree(small_disk)
    study = study_file(studies.race())
    for arguments in (("run", study, "-o", small_disk / "run", "--workers", 0), ("run", study, "-o", small_disk / "new"),
                      ("merge", small_disk / "run"), ("extend", small_disk / "run", "--more", 2, "--workers", 0),
                      ("export", small_disk / "run", "--cell", "main", "--seed", 1, "-o", small_disk / "n.npz")):
        said = finish(*arguments)
        assert said.returncode in (1, 2), said
        assert "Read-only file system" in said.stderr
        assert "Traceback" not in said.stderr
        assert said.stderr.count("\n") == 1, said.stderr
    for arguments in (("status", small_disk / "run"), ("show", small_disk / "run"), ("verify", small_disk / "run")):
        assert finish(*arguments).returncode == 0
    assert tree(small_disk) == before


@pytest.mark.parametrize("years", [-60, -1, 1, 60])
def test_a_clock_that_jumps(reference, tmp_path, command, years):
    """Times of files are shown, and nothing hangs on them."""
    directory = tmp_path / "run"
    shutil.copytree(reference.path.parent, directory)
    first, *others = shards_of(directory)
    first.unlink()
    for k, path in enumerate([*others, directory / "results.h5", directory / "study.toml"]):
        at = time.time() + years * 365 * 86400 * (k % 2)
        os.utime(path, (at, at))
    answer = command("status", directory)
    assert answer.code == 0
    assert "40 " in answer.out
    assert ("in the future" in answer.out) == (years > 0)
    kept = shards_of(directory)
    assert command("run", directory, "--workers", 0, "-q").code == 0
    assert {path: shards_of(directory)[path] for path in kept} == kept
    assert_same_data(directory, reference.path)


def test_a_stale_temporary_file_of_this_very_process(reference, tmp_path, command):
    """Its number may come again after a restart of the machine: names of temporary files are random too."""
    directory = tmp_path / "run"
    shutil.copytree(reference.path.parent, directory)
    first, *_ = shards_of(directory)
    first.unlink()
    (directory / "results.h5").unlink()
    ending = f"{os.getpid()}-00000000.tmp"
    stale = [first.with_name(f".{first.name}.{ending}"), directory / f".results.h5.{ending}"]
    for path in stale:
        path.write_bytes(b"half")
    assert command("run", directory, "--workers", 0, "-q").code == 0
    assert_same_data(directory, reference.path)
    assert all(path.read_bytes() == b"half" for path in stale)
