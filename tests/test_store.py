"""Files appear whole or not at all, and a damaged one says so by its name."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import studies

import mcrace
from mcrace import merging, store, worker
from mcrace.errors import ResultsError
from mcrace.store import Variable

VARIABLES = {
    "seed": Variable(("seed",), np.arange(3, 8)),
    "time": Variable(("time",), np.array([0.0, 0.5, 2.0]), {"units": "sum of step sizes"}),
    "state": Variable(("state",), np.array(["start", "τ=1"], object)),
    "loss": Variable(("seed", "time"), np.where(np.eye(5, 3) == 1, np.nan, np.arange(15.0).reshape(5, 3)),
                     {"description": "mean loss", "units": "1"}),
    "count_at": Variable(("seed", "state"), np.arange(10, dtype=np.int32).reshape(5, 2)),
    "weights": Variable(("seed", "neuron", "input"), np.zeros((5, 4, 2), np.float32)),
    "width": Variable((), np.array(4)),
    "kind": Variable((), np.array("gaussian", object)),
}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A small shard of the cell "abc"."""
    path = tmp_path / "shards" / "abc" / "3-8.h5"
    store.write_shard(path, VARIABLES, {"identity": "abc", "seconds": 0.5})
    return path


def sentence(call: Callable[..., object], *arguments: object) -> str:
    """What a call complains about, one sentence."""
    with pytest.raises(ResultsError) as raised:
        call(*arguments)
    text = str(raised.value)
    assert "\n" not in text
    return text


# ------------------------------------------------------------------------------------------------- publishing


def test_shard_comes_back(shard):
    variables, attributes = store.read_shard(shard, "abc")
    assert variables.keys() == {*VARIABLES, "neuron", "input"}
    for name, variable in VARIABLES.items():
        found = variables[name]
        assert (found.dims, found.values.dtype) == (variable.dims, variable.values.dtype)
        np.testing.assert_array_equal(found.values, variable.values)
        assert found.attributes == (variable.attributes or {})
    assert attributes["seconds"] == 0.5
    assert attributes["format_version"] == store.FORMAT_VERSION


def at_states(known: list[bool], neurons: int) -> dict[str, Variable]:
    """Numbers at states, in 3,000 networks that reached some of them."""
    rows = 3000
    values = np.random.default_rng(0).normal(size=(rows, len(known), neurons))
    values[:, ~np.array(known)] = np.nan
    return {"seed": Variable(("seed",), np.arange(rows)), "cosine_at": Variable(("seed", "state", "neuron"), values)}


@pytest.mark.parametrize("known", [[True] * 4, [False, True, False, True], [False] * 4], ids=["all", "two", "none"])
def test_states_without_records_take_no_room(tmp_path, known):
    variables, path = at_states(known, 20), tmp_path / "0-3000.h5"
    store.write_shard(path, variables, {"identity": "abc"})
    found, _ = store.read_shard(path, "abc")
    np.testing.assert_array_equal(found["cosine_at"].values, variables["cosine_at"].values)
    room = max(1, sum(known)) * 3000 * 20 * 8
    assert room <= path.stat().st_size < room + 60_000


def test_every_nan_comes_back_as_it_was(tmp_path):
    """Those that come of 0/0 have another sign than those where nothing was recorded."""
    variables, path = at_states([True, False], 20), tmp_path / "0-3000.h5"
    variables["cosine_at"].values[:, 1] = -np.nan
    store.write_shard(path, variables, {"identity": "abc"})
    found, _ = store.read_shard(path, "abc")
    assert found["cosine_at"].values.tobytes() == variables["cosine_at"].values.tobytes()


def test_merged_states_take_no_room_either(tmp_path):
    """Though other shards have records at other states, and some have none."""
    pieces = []
    for k, known in enumerate(([True, False, False], [False, False, False], [False, True, False])):
        path = tmp_path / f"{k}.h5"
        store.write_shard(path, at_states(known, 100), {"identity": "abc"})
        pieces.append((path, slice(0, 3000)))
    with store.publish(tmp_path / "all.h5", in_memory=False) as file:
        merging.merge_cell(file, "abc", pieces)
        store.write_attributes(file, {"format_version": store.FORMAT_VERSION})
        assert np.isnan(file["cosine_at"].fillvalue)
        assert file["cosine_at"].id.get_storage_size() < 0.7 * file["cosine_at"].nbytes  # nothing of the third state
    with store.opened(tmp_path / "all.h5") as file:
        merged = store.read(file, "cosine_at", tmp_path)
    whole = [store.read_shard(path)[0]["cosine_at"].values for path, _ in pieces]
    np.testing.assert_array_equal(merged, np.concatenate(whole))


def test_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        calls.append("fsync directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync file")
        fsync(handle)

    def renamed(old: Path, new: Path) -> None:
        calls.append(f"{old.suffix} -> {new.name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    store.write_shard(tmp_path / "x.h5", VARIABLES, {})
    assert calls == ["fsync file", ".tmp -> x.h5", "fsync directory"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_file_that_failed(tmp_path, error):
    with pytest.raises(error), store.publish(tmp_path / "new" / "x.h5") as file:
        file["a"] = np.zeros(10)
        raise error
    assert studies.tree(tmp_path) == {}


def test_a_file_that_failed_leaves_the_old_one(shard):
    before = shard.read_bytes()
    with pytest.raises(ZeroDivisionError), store.publish(shard) as file:
        file["a"] = 1 / 0
    assert shard.read_bytes() == before
    assert list(shard.parent.iterdir()) == [shard]


def test_a_text_that_failed_leaves_the_old_one(tmp_path):
    store.publish_text(tmp_path / "a.txt", "τ\n")
    with pytest.raises(UnicodeEncodeError):
        store.publish_text(tmp_path / "a.txt", "\ud800")
    assert studies.tree(tmp_path) == {"a.txt": "τ\n".encode()}


def test_unlike_sizes_of_a_dimension_are_refused(tmp_path):
    with pytest.raises(ValueError, match="time has 3 entries, elsewhere 2"):
        store.write_shard(tmp_path / "x.h5", {"a": Variable(("time",), np.zeros(2)), "b": Variable(("time",), np.zeros(3))}, {})
    assert studies.tree(tmp_path) == {}


# ------------------------------------------------------------------------------------------------- damage


def test_truncated_shards(shard):
    data = shard.read_bytes()
    for length in [0, 1, 7, 8, 100, 512, len(data) // 2, len(data) - store.SEAL_BYTES, len(data) - 1]:
        shard.write_bytes(data[:length])
        assert f"{shard}: " in sentence(store.read_shard, shard, "abc")


def test_a_flipped_bit_anywhere(shard):
    data = shard.read_bytes()
    for place in np.random.default_rng(1).choice(len(data), 300, replace=False):
        wrong = bytearray(data)
        wrong[place] ^= 1 << place % 8
        shard.write_bytes(wrong)
        assert f"{shard}: is " in sentence(store.read_shard, shard, "abc")


@pytest.mark.parametrize("name", ["loss", "seed", "state", "weights", "width", "kind"])
def test_other_values_are_named(shard, name):
    """Beyond the seal: each dataset has a digest of its own."""
    with h5py.File(shard, "r+") as file:
        data = file[name]
        kept = data.attrs["digest"]
        if data.ndim:
            data[0] = "other" if name == "state" else data[0] + 1
        else:
            data[()] = "other" if name == "kind" else 5
        data.attrs["digest"] = kept
    store._seal(shard)
    assert f"{shard}: /{name} is damaged" in sentence(store.read_shard, shard, "abc")


@pytest.mark.parametrize(("where", "key"), [("/", "seconds"), ("/", "identity"), ("loss", "units"), ("time", "units"),
                                            ("loss", "digest"), ("/", "attributes_digest")])
def test_other_attributes_are_named(shard, where, key):
    """Those of the file and those of its datasets are covered by one digest."""
    with h5py.File(shard, "r+") as file:
        attributes = file[where].attrs
        attributes.modify(key, attributes[key] + 1 if key == "seconds" else "x" + attributes[key][1:])
    store._seal(shard)
    assert f"{shard}: the attributes of / are damaged" in sentence(store.read_shard, shard, "abc")


def test_an_exchanged_dimension_is_damage(shard):
    with h5py.File(shard, "r+") as file:
        file["weights"].dims[1].detach_scale(file["neuron"])
        file.create_dataset("input_2", data=np.arange(4)).make_scale("input_2")
        file["input_2"].attrs["digest"] = store.digest(np.arange(4))
        file["weights"].dims[1].attach_scale(file["input_2"])
    store._seal(shard)
    assert "the attributes of / are damaged" in sentence(store.read_shard, shard, "abc")


@pytest.mark.parametrize("error", [OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, UnicodeError])
@pytest.mark.parametrize("where", ["_datasets", "plain_attributes", "digest"])
def test_whatever_hdf5_raises_becomes_a_sentence(shard, monkeypatch, where, error):
    def fail(*_: object) -> None:
        raise error("bad heap")

    monkeypatch.setattr(store, where, fail)
    assert sentence(store.read_shard, shard, "abc").startswith(f"{shard}: ")


def test_a_shard_of_another_cell(shard):
    assert sentence(store.read_shard, shard, "abd") == f"{shard}: belongs to another cell"


# ------------------------------------------------------------------------------------------------- opening


def write(path: Path, data: bytes) -> Path:
    """A file of some bytes."""
    path.write_bytes(data)
    return path


def test_results_that_do_not_open(reference, tmp_path):
    whole = reference.path.read_bytes()
    path = tmp_path / "results.h5"
    assert sentence(mcrace.open_results, path) == f"{path}: no such file"
    assert "is no HDF5 file" in sentence(mcrace.open_results, write(path, b""))
    assert "is no HDF5 file" in sentence(mcrace.open_results, write(path, b"[study]\nname = 'a'\n" * 50))
    for length in (9, 600, 5000, len(whole) // 2, len(whole) - store.SEAL_BYTES - 1):
        assert str(path) in sentence(mcrace.open_results, write(path, whole[:length]))
    assert "is truncated" in sentence(mcrace.open_results, write(path, whole[: len(whole) // 2]))
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros(3)
    assert "not one of mcrace" in sentence(mcrace.open_results, path)
    shard = next(iter(studies.shards_of(reference.path.parent)))
    assert "no results file" in sentence(mcrace.open_results, shard)


def test_another_format_version(reference, tmp_path):
    path = Path(shutil.copy(reference.path, tmp_path / "results.h5"))
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = store.FORMAT_VERSION + 1
    said = sentence(mcrace.open_results, path)
    assert said == f"{path}: has format version {store.FORMAT_VERSION + 1}; this mcrace reads version {store.FORMAT_VERSION}"


def test_a_directory_without_results(tmp_path):
    assert sentence(mcrace.open_results, tmp_path) == f"{tmp_path / 'results.h5'}: no such file"
    (tmp_path / "results.h5").mkdir()
    assert sentence(mcrace.open_results, tmp_path) == f"{tmp_path / 'results.h5'}: is no file"


def test_a_flipped_bit_in_results(reference, tmp_path):
    data = bytearray(reference.path.read_bytes())
    data[len(data) // 2] ^= 4
    path = write(tmp_path / "results.h5", bytes(data))
    assert sentence(mcrace.open_results, path) == f"{path}: is damaged: its bytes do not match the seal at its end"


def test_damaged_data_and_attributes_of_a_cell(reference, tmp_path):
    path = Path(shutil.copy(reference.path, tmp_path / "results.h5"))
    with h5py.File(path, "r+") as file:
        file["cells/main/loss"][3, 2] += 1e-9
        file["cells/lazy/loss"].attrs["units"] = "m"
    found = mcrace.open_results(path)
    assert "/cells/main/loss is damaged" in sentence(found.cell("main").__getitem__, "loss")
    assert found.cell("main")["accuracy"].shape == (40, 12)
    assert "the attributes of /cells/lazy are damaged" in sentence(found.cell, "lazy")


def test_something_added_by_the_user(reference, tmp_path):
    """A file with further groups opens still: HDF5 dropped the seal, and the digests are right."""
    path = Path(shutil.copy(reference.path, tmp_path / "results.h5"))
    with h5py.File(path, "a") as file:
        file["my_analysis/slopes"] = np.arange(1000.0)
    np.testing.assert_array_equal(mcrace.open_results(path).cell("main")["loss"], reference.cell("main")["loss"])


# ------------------------------------------------------------------------------------------------- what is missing


def put(directory: Path, *ranges: tuple[int, int]) -> None:
    """Names of shards are all that counts here."""
    for first, stop in ranges:
        path = store.shard_path(directory, "abc", first, stop)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(("there", "missing"), [
    ([], [(10, 50)]),
    ([(0, 10), (50, 60)], [(10, 50)]),
    ([(10, 50)], []),
    ([(0, 100)], []),
    ([(10, 20), (20, 50)], []),
    ([(12, 20), (30, 45)], [(10, 12), (20, 30), (45, 50)]),
    ([(0, 30), (5, 12), (25, 40)], [(40, 50)]),
    ([(10, 17), (10, 40), (14, 15), (39, 41)], [(41, 50)]),
    ([(45, 60), (0, 11)], [(11, 45)]),
])
def test_missing_ranges(tmp_path, there, missing):
    put(tmp_path, *there)
    assert store.missing_ranges(tmp_path, "abc", 10, 50) == missing


def test_missing_ranges_by_counting(tmp_path):
    rng = np.random.default_rng(3)
    for trial in range(50):
        directory = tmp_path / str(trial)
        starts = rng.integers(0, 40, rng.integers(0, 6))
        there = [(int(a), int(a + n)) for a, n in zip(starts, rng.integers(1, 15, len(starts)))]
        put(directory, *there)
        first, stop = sorted(rng.choice(50, 2, replace=False).tolist())
        covered = {seed for a, b in there for seed in range(a, b)}
        found = [seed for a, b in store.missing_ranges(directory, "abc", first, stop) for seed in range(a, b)]
        assert found == [seed for seed in range(first, stop) if seed not in covered]


def test_other_names_are_no_shards(tmp_path):
    put(tmp_path, (0, 10))
    for name in (".0-50.h5.77-abcdef.tmp", "10-50.damaged", "10-50.h5~", "x-50.h5", "10.h5", "-10-50.h5"):
        (store.shard_path(tmp_path, "abc", 0, 10).parent / name).touch()
    assert store.stored_ranges(tmp_path, "abc") == [(0, 10)]


def test_overlapping_shards_are_merged_once(tmp_path):
    def shard(first: int, stop: int) -> None:
        seeds = np.arange(first, stop)
        store.write_shard(store.shard_path(tmp_path, "abc", first, stop),
                          {"seed": Variable(("seed",), seeds), "x": Variable(("seed", "two"), np.stack([seeds, seeds**2], 1)),
                           "two": Variable(("two",), np.array([1, 2]))}, {"identity": "abc"})

    for first, stop in ((0, 8), (0, 3), (5, 12), (6, 9), (15, 20)):
        shard(first, stop)
    with store.publish(tmp_path / "merged.h5") as file:
        pieces = [(path, rows) for path, _, rows in merging._pieces(tmp_path, "abc", 2, 17)]
        merging.merge_cell(file, "abc", pieces)
        store.write_attributes(file, {"format_version": store.FORMAT_VERSION})
    seeds = [*range(2, 12), 15, 16]
    with store.opened(tmp_path / "merged.h5") as merged:
        found = {name: store.read(merged, name, tmp_path) for name in merged}
    assert found["seed"].tolist() == seeds
    assert found["x"][:, 1].tolist() == [s**2 for s in seeds]
    assert found["two"].tolist() == [1, 2]
    assert len(pieces) == 4


# ------------------------------------------------------------------------------------------------- in a run


@pytest.fixture
def copy(reference: mcrace.Results, tmp_path: Path) -> Path:
    """A results directory of the small study of one's own."""
    return Path(shutil.copytree(reference.path.parent, tmp_path / "run"))


def test_a_damaged_shard_is_set_aside_and_computed_again(reference, copy):
    study = mcrace.parse_study(studies.race())
    (copy / "results.h5").unlink()
    shard = sorted(studies.shards_of(copy))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:4000])
    said = sentence(lambda: mcrace.run(study, copy, workers=0))
    assert said.startswith(f"{shard}: is truncated")
    assert said.endswith("; it is set aside, and running again computes it anew")
    assert not shard.exists()
    assert shard.with_suffix(".damaged").exists()
    assert not (copy / "results.h5").exists()
    studies.assert_same_data(mcrace.run(study, copy, workers=0).path, reference.path)


def test_all_damaged_shards_of_a_cell_are_named_at_once(tmp_path):
    study = mcrace.parse_study(studies.race(12))
    mcrace.run(study, tmp_path, workers=0, shard_size=4)
    (tmp_path / "results.h5").unlink()
    folder = next(tmp_path.glob("shards/*"))
    for shard in folder.iterdir():
        shard.write_bytes(b"")
    with pytest.raises(ResultsError, match="3 shards are set aside, and running again computes them anew") as raised:
        mcrace.run(study, tmp_path, workers=0)
    assert all(f"{folder}/{first}-{first + 4}.h5: is truncated" in str(raised.value) for first in (0, 4, 8))
    assert len(mcrace.run(study, tmp_path, workers=0).cell("main").seeds) == 12


def test_left_over_temporary_files_do_no_harm(reference, copy):
    (copy / "results.h5").unlink()
    for shard in studies.shards_of(copy):
        shard.with_name(f".{shard.name}.123-00aa11bb.tmp").write_bytes(b"half a shard")
    (copy / ".results.h5.123-00aa11bb.tmp").write_bytes(b"half a file")
    studies.assert_same_data(mcrace.run(mcrace.parse_study(studies.race()), copy, workers=0).path, reference.path)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "other version", "no HDF5", "gone"])
def test_results_file_is_made_anew_from_its_shards(reference, copy, damage):
    path = copy / "results.h5"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    elif damage == "other version":
        with h5py.File(path, "r+") as file:
            file.attrs["format_version"] = 99
    else:
        path.write_bytes({"truncated": data[:5000], "flipped": bytes(data), "no HDF5": b"x"}[damage])
    before = studies.shards_of(copy)
    studies.assert_same_data(mcrace.run(mcrace.parse_study(studies.race()), copy, workers=0).path, reference.path)
    assert studies.shards_of(copy) == before


def test_damaged_shared_data_are_written_again(tmp_path):
    pytest.importorskip("sklearn")
    text = studies.race(8).replace('kind = "gaussian"', 'kind = "digits"\nclasses = [3, 8]').replace("dimension = 5\n", "")
    study = mcrace.parse_study(text)
    mcrace.run(study, tmp_path / "a", workers=0)
    mcrace.run(study, tmp_path / "b", workers=0, seeds=4)
    (pool,) = (tmp_path / "b" / "data").iterdir()
    whole = pool.read_bytes()
    pool.write_bytes(whole[:3000])
    worker.load_pool.cache_clear()
    assert f"{pool}: is truncated" in sentence(worker.load_pool, str(pool))
    mcrace.run(study, tmp_path / "b", workers=0)
    assert pool.read_bytes() == whole
    studies.assert_same_data(tmp_path / "a", tmp_path / "b")
