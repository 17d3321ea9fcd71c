"""Tasks with a file of the user's: what is read, what is said of a bad one, and that it counts what a file holds."""

import gzip
import io
import shutil
import tarfile

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import mcrace
from mcrace import plan
from mcrace.errors import ResultsError, StudyError
from mcrace.tasks import Cifar10, File
from mcrace.worker import compute, configuration

RAW = {"center": False, "scale": "none"}
TRAIN = [f"data_batch_{k}.bin" for k in range(1, 6)]


def records(count, seed=0, labels=range(10)):
    """Records of the binary version of CIFAR-10, uint8 [record, byte], with every label."""
    found = np.random.default_rng(seed).integers(0, 256, (count, 3073), np.uint8)
    found[:, 0] = np.resize(list(labels), count)
    return found


def archive(path, batches, mode="w:gz", folder="cifar-10-batches-bin/"):
    """An archive of files {name: bytes}, laid out as cifar-10-binary.tar.gz."""
    with tarfile.open(path, mode) as tar:
        for name, data in batches.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def small():
    """Files of a small CIFAR-10, and its training records."""
    parts = {name: records(20, k) for k, name in enumerate([*TRAIN, "test_batch.bin"])}
    files = {"batches.meta.txt": b"airplane\n", **{n: r.tobytes() for n, r in parts.items()}, "readme.html": b"<html>"}
    return files, np.concatenate([parts[name] for name in TRAIN])


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    return archive(tmp_path_factory.mktemp("cifar") / "cifar-10-binary.tar.gz", small()[0])


def cifar10(path, **options):
    return Cifar10(**{"path": str(path), "classes": [3, 5], "samples": 8, **RAW, **options})


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder for files that are written over and over."""
    return tmp_path_factory.mktemp("scratch")


# ------------------------------------------------------------------------------------------------- cifar10


@pytest.mark.parametrize("classes, first, second", [
    ([3, 5], [3], [5]), ([5, 3], [5], [3]), ([[0, 1, 8, 9], [2, 3, 4, 5, 6, 7]], [0, 1, 8, 9], [2, 3, 4, 5, 6, 7]),
    ([7, [1, 2]], [7], [1, 2])])
def test_the_pool_holds_the_images_of_the_classes(cifar, classes, first, second):
    pool = cifar10(cifar, classes=classes).pool()
    train = small()[1]
    expected = train[np.isin(train[:, 0], first + second)]
    assert np.array_equal(pool["X"], expected[:, 1:]) and pool["X"].dtype == np.uint8
    assert np.array_equal(pool["y"], np.where(np.isin(expected[:, 0], second), 1.0, -1.0))


def test_samples_are_images_between_0_and_1_each_once(cifar):
    task = cifar10(cifar, samples=12, test_samples=8)
    pool = task.pool()
    X, y = task.sample(pool, 1, 0)
    (test_X,), (test_y,) = task.test_samples_of(pool, 1, np.array([0]))
    of = {image.tobytes(): label for image, label in zip(pool["X"] / 255, pool["y"])}
    assert [of[x.tobytes()] for x in X] == y.tolist() and [of[x.tobytes()] for x in test_X] == test_y.tolist()
    assert len({x.tobytes() for x in [*X, *test_X]}) == 20 == len(of)


def test_which_batches(cifar):
    count = {b: len(cifar10(cifar, batches=b, samples=2).pool()["y"]) for b in ("train", "test", "all")}
    assert count == {"train": 20, "test": 4, "all": 24}
    assert np.array_equal(cifar10(cifar, batches="test", samples=2).pool()["X"], records(20, 5)[[3, 5, 13, 15], 1:])


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "folder"])
def test_folder_and_archives_are_one_and_nothing_is_unpacked(cifar, tmp_path, mode):
    files, _ = small()
    path = tmp_path / "there"
    if mode == "folder":
        path.mkdir()
        for name, data in files.items():
            (path / name).write_bytes(data)
    else:
        archive(path, files, mode)
    there = sorted(tmp_path.rglob("*"))
    assert cifar10(path).look() == cifar10(cifar).look()
    assert all(np.array_equal(a, b) for a, b in zip(cifar10(path).pool().values(), cifar10(cifar).pool().values()))
    assert sorted(tmp_path.rglob("*")) == there
    more = archive(tmp_path / "more", {**files, "data_batch_6.bin": records(1).tobytes()})
    assert cifar10(more).look() != cifar10(cifar).look()


ONE = {"data_batch_1.bin": records(20).tobytes(), "data_batch_2.bin": records(12).tobytes()}


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.floats(0, 1, exclude_max=True), st.sampled_from(["w", "w:gz"]))
@example(1536 / (1536 + 32 * 3073), "w")
def test_a_truncated_archive_is_a_sentence(scratch, share, mode):
    path = archive(scratch / "cut.tar", ONE, mode)
    whole = path.read_bytes()
    end = len(whole) if mode == "w:gz" else 2 * 512 + 32 * 3073  # a tar archive is padded behind its last file
    path.write_bytes(whole[: int(share * end)])
    with pytest.raises(StudyError, match=r"^task.path: .*cut.tar: is truncated"):
        cifar10(path).look()


def test_an_archive_that_ends_behind_a_file_is_truncated(scratch):
    path = archive(scratch / "cut.tar", ONE, "w")
    for blocks in (0, 1 + -(-20 * 3073 // 512)):
        path.write_bytes(archive(scratch / "whole.tar", ONE, "w").read_bytes()[: 512 * blocks])
        with pytest.raises(StudyError, match=r"cut.tar: is truncated"):
            cifar10(path).look()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_an_archive_with_a_wrong_byte_is_a_sentence_or_holds_the_same(scratch, share, change):
    path = archive(scratch / "wrong.tar.gz", ONE)
    right, data = cifar10(path).look(), bytearray(path.read_bytes())
    data[int(share * len(data))] ^= change
    path.write_bytes(data)
    try:
        found = cifar10(path).look()
    except StudyError as error:
        assert str(error).startswith("task.path: ")
    else:
        assert found == right


@pytest.mark.parametrize("files, message", [
    ({"data_batch_1.bin": records(3).tobytes()[:-1]}, r"data_batch_1.bin has 9,218 bytes, which is no whole number"),
    ({"data_batch_1.bin": b""}, r"data_batch_1.bin has 0 bytes"),
    ({"data_batch_1.bin": records(4, labels=[3, 5, 10]).tobytes()}, r"data_batch_1.bin has the label 10 in record 2"),
    ({"data_batch_1": b"\x80\x02}", "batches.meta": b"\x80"}, "is the Python version of CIFAR-10, whose files are pickled"),
    ({"train.bin": b"0" * 3074}, "holds no batch of the binary version"),
    ({}, "holds no batch"),
    ({n: records(9).tobytes() for n in ("data_batch_1.bin", "data_batch_3.bin")}, r"data_batch_2.bin is missing"),
])
@pytest.mark.parametrize("packed", [True, False])
def test_a_bad_archive_or_folder_is_a_sentence(tmp_path, files, message, packed):
    path = tmp_path / "data"
    if packed:
        archive(path, files)
    else:
        path.mkdir()
        for name, data in files.items():
            (path / name).write_bytes(data)
    with pytest.raises(StudyError, match=f"^task.path: .*data: {message}"):
        cifar10(path).look()


def test_what_else_a_path_may_be(tmp_path):
    with pytest.raises(StudyError, match=r"task.path: /dev/zero: is neither a file nor a folder"):
        cifar10("/dev/zero").look()
    with pytest.raises(StudyError, match=r"task.path: .*nothing: cannot be read: No such file"):
        cifar10(tmp_path / "nothing").look()
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(StudyError, match=r"task.path: .*text: is truncated, or no tar archive"):
        cifar10(tmp_path / "text").look()
    with gzip.open(tmp_path / "zeros.gz", "wb") as file:
        file.write(b"zero" * 1000)
    with pytest.raises(StudyError, match=r"no tar archive"):
        cifar10(tmp_path / "zeros.gz").look()


def test_links_and_twins_in_an_archive_are_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(records(10).tobytes())
    with tarfile.open(tmp_path / "links.tar", "w") as tar:
        for kind, name in ((tarfile.SYMTYPE, "data_batch_1.bin"), (tarfile.LNKTYPE, "data_batch_2.bin")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(tmp_path / "secret")
            tar.addfile(member)
    with pytest.raises(StudyError, match="holds no batch"):
        cifar10(tmp_path / "links.tar").look()
    with tarfile.open(tmp_path / "twins.tar", "w") as tar:
        for folder in ("a/", "b/"):
            member = tarfile.TarInfo(folder + "data_batch_1.bin")
            member.size = 10 * 3073
            tar.addfile(member, io.BytesIO(records(10).tobytes()))
    with pytest.raises(StudyError, match=r"holds data_batch_1.bin twice"):
        cifar10(tmp_path / "twins.tar").look()


def test_images_that_are_lacking(cifar, tmp_path):
    with pytest.raises(StudyError, match=r"task.samples: these classes have 20 images together, fewer than the 21 asked for"):
        cifar10(cifar, samples=21).pool()
    few = archive(tmp_path / "few", {"data_batch_1.bin": records(9, labels=[0, 1, 2]).tobytes()})
    with pytest.raises(StudyError, match=r"task.classes: .*few has no image of class 3, 5"):
        cifar10(few).pool()
    with pytest.raises(StudyError, match=r"task.batches: .*few has no test batch; it has data_batch_1.bin"):
        cifar10(few, batches="test").pool()


@pytest.mark.parametrize("classes, message", [
    ([3, 3], "class 3 comes twice"), ([[0, 1], [1, 2]], "class 1 comes twice"), ([3, 10], "not 10"), ([[3], []], "is empty"),
    ([3], "Field required|at least 2|missing"), ([1, 2, 3], "at most 2"), (["cat", "dog"], "valid integer"), ("cat", "tuple")])
def test_classes_that_cannot_be(cifar, classes, message):
    with pytest.raises(ValidationError, match=message):
        cifar10(cifar, classes=classes)


# ------------------------------------------------------------------------------------------------- file


def saved(path, X, y, kind="npz", **more):
    """A file with arrays, X and y where given."""
    arrays = {k: v for k, v in {"X": X, "y": y, **more}.items() if v is not None}
    if kind == "npz":
        with open(path, "wb") as file:
            np.savez(file, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    return path


def good(samples=12, inputs=3, dtype=float):
    X = np.random.default_rng(samples).normal(size=(samples, inputs)) * 40
    return (np.abs(X) if dtype == np.uint8 else X).astype(dtype), np.resize([1.0, -1.0, -1.0], samples)


def file(path, **options):
    return File(**{"path": str(path), "samples": 4, **RAW, **options})


KINDS = pytest.mark.parametrize("kind", ["npz", "hdf5"])


@KINDS
@pytest.mark.parametrize("dtype", [float, np.float32, np.uint8, np.int16, ">f8"])
def test_samples_are_rows_of_the_file(tmp_path, kind, dtype):
    X, y = good(dtype=dtype)
    task = file(saved(tmp_path / "data", X, y.astype(np.int8), kind), samples=12)
    drawn, labels = task.sample(task.pool(), 1, 5)
    of = {x.astype(float).tobytes(): label for x, label in zip(X, y)}
    assert drawn.dtype == labels.dtype == float and task.inputs() == 3
    assert [of.pop(x.tobytes()) for x in drawn] == labels.tolist() and not of


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.integers(2, 20), st.integers(1, 5), st.sampled_from([float, np.float32, np.uint8]))
def test_both_formats_of_the_same_numbers_are_one_and_other_numbers_are_not(scratch, samples, inputs, dtype):
    X, y = good(samples, inputs, dtype)
    found = [file(saved(scratch / f"{samples}-{inputs}.{kind}", X, y, kind)).look() for kind in ("npz", "hdf5")]
    assert found[0] == found[1] and found[0]["dimension"] == inputs
    X[0, 0] += 1
    assert file(saved(scratch / "other", X, y)).look() != found[0]
    assert file(saved(scratch / "other", good(samples, inputs, dtype)[0], -y)).look() != found[0]


def spoilt(what):
    """X, y with a mistake."""
    X, y = good()
    if what in ("nan", "inf"):
        X[7, 1] = float(what)
    elif what == "nan label":
        y[3] = np.nan
    elif what == "lengths":
        y = y[:-1]
    elif what == "no sample":
        X, y = X[:0], y[:0]
    return X, y


@KINDS
@pytest.mark.parametrize("X, y, message", [
    (*spoilt("nan"), "X has 1 entries that are NaN or infinite, the first for sample 7"),
    (*spoilt("inf"), "X has 1 entries that are NaN or infinite"),
    (*spoilt("nan label"), "y has 1 entries that are NaN or infinite, the first for sample 3"),
    (*spoilt("lengths"), "X has 12 samples, but y has 11"),
    (*spoilt("no sample"), "has no sample"),
    (good()[0], np.ones(12), "has one class alone: every label is 1"),
    (good()[0], good()[1] > 0, r"must be -1 and \+1; these are 0 and 1, so store np.where\(y == 1, 1, -1\)"),
    (good()[0], np.resize([3, 8], 12), r"these are 3 and 8, so store np.where\(y == 8, 1, -1\)"),
    (good()[0], np.zeros(12), r"must be -1 and \+1; 0 is among them"),
    (good()[0], np.resize([-1, 0, 1], 12), r"must be -1 and \+1; 0 is among them"),
    (good()[0][0], good()[1], r"X must have the dimensions \[sample, input\] and y \[sample\]; they have shapes \(3,\) and"),
    (good()[0], good()[1][:, None], r"they have shapes \(12, 3\) and \(12, 1\)"),
    (good()[0][:, :0], good()[1], "X has 0 inputs"),
    (good()[0] * 1j, good()[1], "X must hold real numbers, not complex128"),
    (None, good()[1], "has no X; it holds y"),
    (good()[0], None, "has no y; it holds X"),
])
def test_a_bad_file_is_a_sentence(tmp_path, kind, X, y, message):
    path = saved(tmp_path / "data", X, y, kind)
    with pytest.raises(StudyError, match=f"^task.path: .*data: .*{message}"):
        file(path).look()


def test_python_objects_are_not_unpickled(tmp_path):
    path = saved(tmp_path / "data", np.array([[print, "a"]], object), good()[1])
    with pytest.raises(StudyError, match=r"an array of Python objects, which would have to be unpickled"):
        file(path).look()


def test_nothing_outside_an_hdf5_file_is_read(tmp_path):
    X, y = good()
    saved(tmp_path / "secret", X, y, "hdf5")
    X.tofile(tmp_path / "raw")
    layout = h5py.VirtualLayout(X.shape, X.dtype)
    layout[...] = h5py.VirtualSource(tmp_path / "secret", "X", X.shape)
    makers = {
        "an external link": lambda f: f.__setitem__("X", h5py.ExternalLink(str(tmp_path / "secret"), "X")),
        "a soft link": lambda f: f.__setitem__("X", h5py.SoftLink("/y")),
        "a group": lambda f: f.create_group("X"),
        "virtual": lambda f: f.create_virtual_dataset("X", layout),
        "external": lambda f: f.create_dataset("X", X.shape, X.dtype, external=[(str(tmp_path / "raw"), 0, X.nbytes)]),
    }
    for name, make in makers.items():
        path = saved(tmp_path / name, None, y, "hdf5")
        with h5py.File(path, "a") as there:
            make(there)
        message = "the values of X are in another file" if name in ("virtual", "external") else "no link and no group"
        with pytest.raises(StudyError, match=f"task.path: .*{name}: .*{message}"):
            file(path).look()


@KINDS
@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_a_sentence(scratch, kind, share):
    path = scratch / "data"
    whole = saved(path, *good(200, 9), kind).read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(StudyError, match=r"^task.path: .*data: is (neither|damaged)"):
        file(path).look()


def test_what_is_no_file_is_a_sentence(tmp_path):
    (tmp_path / "empty").touch()
    for path, message in ((tmp_path / "no", "cannot be read: No such file"), (tmp_path, "is no file"),
                          ("/dev/zero", "is no file"), (tmp_path / "empty", "is neither an npz")):
        with pytest.raises(StudyError, match=f"^task.path: {path}: {message}"):
            file(path).look()
    with pytest.raises(StudyError, match=r"task.samples: .*data has 12 samples, fewer than the 13 asked for"):
        file(saved(tmp_path / "data", *good()), samples=13).pool()


# ------------------------------------------------------------------------------------------------- within a study


STUDY = """
[study]
name = "own"
seeds = 6
entropy = 5
[task]
kind = "file"
path = "data.npz"
samples = 10
[network]
hidden = [4]
[training]
step_size = 0.1
steps = 6
[record]
times = [0, 6]
weights = "ends"
[[cells]]
name = "mse"
"task.loss" = "mse"
"""


@pytest.fixture
def home(tmp_path):
    """A folder with a study and its data."""
    folder = tmp_path / "home"
    folder.mkdir()
    saved(folder / "data.npz", *good(30, 3))
    (folder / "study.toml").write_text(STUDY)
    return folder


def identities(study):
    return [plan.identity(cell.config, study.entropy) for cell in study.cells]


def test_a_path_counts_from_the_folder_of_the_study_and_decides_nothing(home, tmp_path):
    study = mcrace.load_study(home / "study.toml")
    task = study.cells[0].config.task
    assert task.inputs() == task.dimension == 3 and task.path == str(home / "data.npz")
    shutil.move(home, tmp_path / "away")
    there = mcrace.load_study(tmp_path / "away" / "study.toml")
    assert identities(there) == identities(study) and there.cells[0].config.task.path != task.path
    (tmp_path / "away" / "data.npz").rename(tmp_path / "renamed")
    other = mcrace.parse_study(STUDY.replace("data.npz", "renamed"), tmp_path)
    assert identities(other) == identities(study)
    saved(tmp_path / "renamed", *good(31, 3))
    assert not set(identities(mcrace.parse_study(STUDY.replace("data.npz", "renamed"), tmp_path))) & set(identities(study))


def test_the_text_of_a_study_says_what_its_files_held(home):
    study = mcrace.load_study(home / "study.toml")
    assert study.text.startswith(STUDY) and study.text.count("[files.") == 1
    (home / "data.npz").unlink()
    again = mcrace.parse_study(study.text)
    assert identities(again) == identities(study) and again.text == study.text
    with pytest.raises(StudyError, match=r"study.toml: task.path: .*data.npz: cannot be read: No such file or directory$"):
        mcrace.load_study(home / "study.toml")


@pytest.mark.parametrize("more, message", [
    ('[files]\n"data.npz" = 3', "files: 'data.npz' must be a table with a digest"),
    ('[files."data.npz"]\ndimension = 3', "files: 'data.npz' must be a table with a digest"),
    ('[files."data.npz"]\ndigest = 3', "task.digest: input should be a valid string"),
    ('[files."data.npz"]\ndigest = "ab"\nsize = 3', "task.size: unknown key"),
    ("files = 3", "files: must be a table"),
])
def test_a_spoilt_table_of_files_is_a_sentence(home, more, message):
    text = more + STUDY if more.startswith("files") else STUDY + more
    with pytest.raises(StudyError, match=message):
        mcrace.parse_study(text, home)


@pytest.mark.parametrize("path, message", [
    ("", "task.path: string should have at least 1 character"), ("a\\nb", "task.path: a path without control characters"),
    ("x" * 260, "task.path: .*cannot be read: File name too long"), (".", "is no file"), ("../nothing.h5", "No such file")])
def test_paths_that_cannot_be(home, path, message):
    with pytest.raises(StudyError, match=message):
        mcrace.parse_study(STUDY.replace("data.npz", path), home)


@pytest.mark.parametrize("path", ["x" * 900, "../nothing.h5"])
def test_what_a_file_held_is_enough_where_there_is_none(home, path):
    note = f'\n[files."{path}"]\ndigest = "ab"\ndimension = 7'
    task = mcrace.parse_study(STUDY.replace("data.npz", path) + note, home).cells[0].config.task
    assert task.digest == "ab" and task.inputs() == 7


def test_a_digest_that_is_asked_for_must_be_found(home):
    for key, value in (("digest", '"0123"'), ("dimension", "4")):
        with pytest.raises(StudyError, match=f"task.{key}: .*data.npz has .*, not {value.strip(chr(34))}"):
            mcrace.parse_study(STUDY.replace("samples = 10", f"samples = 10\n{key} = {value}"), home)


def test_a_run_goes_on_from_a_moved_file_and_not_from_a_changed_one(home, tmp_path):
    whole = mcrace.run(home / "study.toml", tmp_path / "whole", workers=0)
    mcrace.run(home / "study.toml", tmp_path / "run", workers=0, seeds=3)
    shutil.move(home, tmp_path / "away")
    before = sorted((tmp_path / "run" / "shards").rglob("*.h5"))
    results = mcrace.run(tmp_path / "away" / "study.toml", tmp_path / "run", workers=0)
    assert set(before) < set((tmp_path / "run" / "shards").rglob("*.h5")), "nothing was computed twice"
    for name in ("main", "mse"):
        assert np.array_equal(results.cell(name)["W_final"], whole.cell(name)["W_final"])
    saved(tmp_path / "away" / "data.npz", *good(31, 3))
    with pytest.raises(ResultsError, match=r"holds another study.*\n.*task.digest: there \w+, here \w+"):
        mcrace.run(tmp_path / "away" / "study.toml", tmp_path / "run", workers=0)
    shutil.rmtree(tmp_path / "away")
    assert len(mcrace.open_results(tmp_path / "run").study.cells) == 2
    assert mcrace.run(tmp_path / "run" / "study.toml", tmp_path / "run", workers=0).cell("main")["seed"].size == 6


def test_a_file_that_changes_after_the_study_was_read_is_not_used(home):
    task = mcrace.load_study(home / "study.toml").cells[0].config.task
    saved(home / "data.npz", *good(31, 3))
    with pytest.raises(StudyError, match=r"task.digest: .*data.npz holds other data than those of this study"):
        task.pool()


def test_a_worker_never_looks_at_the_file(home):
    study = mcrace.load_study(home / "study.toml")
    config, pool = study.cells[0].config, study.cells[0].config.task.pool()
    (shard,) = plan.shards_of(study, study.cells[0], [(0, 6)], None, "")
    (home / "data.npz").unlink()
    assert configuration(shard.config) == config
    assert np.isfinite(compute(shard, pool)["W_final"].values).all()


def test_cifar_in_a_study(cifar, tmp_path):
    text = STUDY.replace('kind = "file"', 'kind = "cifar10"\nclasses = [[0, 1, 8, 9], [2, 3]]').replace("data.npz", "c.tar.gz")
    shutil.copy(cifar, tmp_path / "c.tar.gz")
    study = mcrace.parse_study(text, tmp_path)
    assert configuration(study.cells[0].config.plain()) == study.cells[0].config
    results = mcrace.run(study, tmp_path / "out", workers=0)
    assert results.cell("main")["W_final"].shape == (6, 4, 3072) and np.isfinite(results.cell("main")["W_final"]).all()
