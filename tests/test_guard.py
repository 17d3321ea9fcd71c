"""A results file can make mcrace read its own plain arrays, and nothing else."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

import mcrace
from mcrace import merging, store
from mcrace.errors import ResultsError
from mcrace.store import Variable


class Bomb:
    """Says so if it is ever unpickled."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("unpickled",)


def soft(cell: h5py.Group, tmp_path: Path) -> None:
    cell["loss"] = h5py.SoftLink("/cells/lazy/loss")


def external(cell: h5py.Group, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["loss"] = np.zeros((40, 12))
    cell["loss"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/loss")


def storage(cell: h5py.Group, tmp_path: Path) -> None:
    (tmp_path / "passwords").write_bytes(bytes(40 * 12 * 8))
    cell.create_dataset("loss", (40, 12), float, external=[(str(tmp_path / "passwords"), 0, 40 * 12 * 8)])


def virtual(cell: h5py.Group, tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((40, 12), float)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "loss", (40, 12))
    cell.create_virtual_dataset("loss", layout)


def filtered(cell: h5py.Group, tmp_path: Path) -> None:
    """A filter that only a plug-in knows (32001 is blosc), asked for as optional, so that the file can be written."""
    kept = h5p.create(h5p.DATASET_CREATE)
    kept.set_chunk((40, 12))
    kept.set_filter(32001, 1)
    h5d.create(cell.id, b"loss", h5t.IEEE_F64LE, h5s.create_simple((40, 12)), kept)


def lzf(cell: h5py.Group, tmp_path: Path) -> None:
    """A filter of h5py's alone."""
    cell.create_dataset("loss", data=np.zeros((40, 12)), compression="lzf")


def opaque(cell: h5py.Group, tmp_path: Path) -> None:
    cell["loss"] = np.void(pickle.dumps(Bomb()))


def compound(cell: h5py.Group, tmp_path: Path) -> None:
    cell["loss"] = np.zeros(3, [("a", float), ("b", int)])


def reference(cell: h5py.Group, tmp_path: Path) -> None:
    cell.create_dataset("loss", data=cell.ref, dtype=h5py.ref_dtype)


def ragged(cell: h5py.Group, tmp_path: Path) -> None:
    cell.create_dataset("loss", (40,), h5py.vlen_dtype(float))


def huge(cell: h5py.Group, tmp_path: Path) -> None:
    """A terabyte of which not a byte is stored."""
    cell.create_dataset("loss", (1 << 20, 1 << 17), float, chunks=(1024, 1024), compression="gzip")


def huge_chunk(cell: h5py.Group, tmp_path: Path) -> None:
    cell.create_dataset("loss", (40, 12), float, chunks=(1 << 14, 1 << 14), maxshape=(None, None))


def named_type(cell: h5py.Group, tmp_path: Path) -> None:
    cell["loss"] = np.dtype(float)


HOSTILE = {soft: "it is a soft link", external: "it is a link to another file",
           storage: "its values are in another file", virtual: "it is a virtual dataset",
           filtered: "it needs the HDF5 filter 32001", lzf: "it needs the HDF5 filter 32000",
           opaque: "its values are neither numbers nor texts", compound: "its values are neither", reference: "are neither",
           ragged: "its values are neither", huge: "it claims 1,099,511,627,776 bytes, and 0 are stored",
           huge_chunk: "it claims 2,147,483,648 bytes", named_type: "it is neither a group nor a dataset"}


@pytest.fixture
def path(reference: mcrace.Results, tmp_path: Path) -> Path:
    """A results file of one's own."""
    return Path(shutil.copy(reference.path, tmp_path / "results.h5"))


def sealed_attributes(group: h5py.Group) -> None:
    """Right digests round whatever is there, as one who means harm would leave them."""
    store.write_attributes(group, {k: v for k, v in group.attrs.items() if k != "attributes_digest"})


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_hostile_datasets_are_refused(path, tmp_path, make):
    with h5py.File(path, "r+") as file:
        cell = file["cells/main"]
        kept = str(cell["loss"].attrs["digest"])
        del cell["loss"]
        make(cell, tmp_path)
        if make in (storage, virtual, lzf, huge, huge_chunk, compound, ragged):
            cell["loss"].attrs["digest"] = kept
    found = mcrace.open_results(path)
    for look in (lambda: found.cell("main"), found.to_table, found.to_datatree, lambda: mcrace.test(path)):
        with pytest.raises(ResultsError) as raised:
            look()
        assert str(raised.value).startswith(f"{path}: /cells/main/loss is refused: ")
        assert HOSTILE[make] in str(raised.value)
    assert found.cell("lazy")["loss"].shape == (40, 12)


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("second", [False, True])
def test_hostile_shards_are_refused(tmp_path, make, second):
    """Their seals are right; a first shard is read with all its digests, later ones in another way."""
    for k in range(2):
        seeds = np.arange(5 * k, 5 * k + 5)
        variables = {"seed": Variable(("seed",), seeds), "loss": Variable(("seed", "time"), np.zeros((5, 3)))}
        store.write_shard(store.shard_path(tmp_path, "abc", 5 * k, 5 * k + 5), variables, {"identity": "abc"})
    shard = store.shard_path(tmp_path, "abc", 5 * second, 5 * second + 5)
    with h5py.File(shard, "r+") as file:
        del file["loss"]
        make(file, tmp_path)
    store._seal(shard)
    pieces = [(p, rows) for p, _, rows in merging._pieces(tmp_path, "abc", 0, 10)]
    with pytest.raises(ResultsError) as raised, store.publish(tmp_path / "merged.h5") as file:
        merging.merge_cell(file, "abc", pieces)
    said = str(raised.value).removeprefix(f"{shard}: ")
    assert said.startswith(("/loss is refused: ", "/loss has another shape or type", "cannot be read: 'Unable")), said
    assert not (tmp_path / "merged.h5").exists()


@pytest.mark.parametrize("make", [soft, external], ids=lambda make: make.__name__)
@pytest.mark.parametrize("where", ["/", "/cells"])
def test_links_in_place_of_groups(path, tmp_path, make, where):
    with h5py.File(path, "r+") as file:
        make(file[where], tmp_path)
    with pytest.raises(ResultsError, match=f"^{path}: {where.rstrip('/')}/loss is refused: it is a"):
        mcrace.open_results(path)


@pytest.mark.parametrize("name", ["..", "a b", "a\nb", "\x1b[31m", "-x", "a" * 300, "τ"])
def test_names_that_are_none(path, name):
    """A name in a file may become one on a screen or of a file."""
    with h5py.File(path, "r+") as file:
        file["cells"].create_group(name)
    with pytest.raises(ResultsError, match="is refused: that is no name of mcrace's") as raised:
        mcrace.open_results(path)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("value", [np.void(pickle.dumps(Bomb())), np.arange(3), h5py.Empty("f"), np.array(["a", "b"], object)])
def test_odd_attributes_are_refused(path, value):
    with h5py.File(path, "r+") as file:
        file["cells/main"].attrs["role"] = value
    with pytest.raises(ResultsError, match="the attribute 'role' of /cells/main is refused: it is no single number or text"):
        mcrace.open_results(path).cell("main")


def test_a_text_that_is_repeated_without_end(path):
    """Entries of one long text cost a file nothing, and a reader that takes all of them gigabytes."""
    with h5py.File(path, "r+") as file:
        cell = file["cells/main"]
        texts = cell.create_dataset("texts", (3000,), store.TEXT)
        texts[:] = "x" * 1000
        texts.attrs["digest"] = ""
        cell["k"] = np.arange(3000)
        cell["k"].make_scale("k")
        cell["k"].attrs["digest"] = ""
        texts.dims[0].attach_scale(cell["k"])
        sealed_attributes(cell)
    with pytest.raises(ResultsError, match="it holds texts of more than 1,048,576 letters"):
        mcrace.open_results(path).cell("main")["texts"]


def test_a_study_in_a_file_is_a_study(path):
    """Its name becomes that of a directory; nothing but a right study is taken."""
    with h5py.File(path, "r+") as file:
        file.attrs["study"] = str(file.attrs["study"]).replace('"small"', '"../../small"')
        sealed_attributes(file)
    with pytest.raises(mcrace.StudyError, match="is no name"):
        _ = mcrace.open_results(path).study


@pytest.mark.parametrize("name", ["../x", "/x", "..", ".hidden", "a/b", "a\\u0000b", "", "a" * 101, "con\\nname"])
def test_names_in_a_study_cannot_leave_the_directory(command, tmp_path, monkeypatch, study_file, name):
    import studies

    monkeypatch.chdir(tmp_path)
    for old in ('name = "small"', 'name = "lazy"'):
        path = study_file(studies.race(4).replace(old, f'name = "{name}"'))
        answer = command("run", path, "--workers", 0)
        assert answer.code == 2
        assert "is no name" in answer.err
    assert [p.name for p in tmp_path.iterdir()] == ["study.toml"]


def test_what_is_shown_does_not_steer_the_terminal(path, command):
    with h5py.File(path, "r+") as file:
        file.attrs["git_commit"] = "\x1b[2J\x1b]0;mine\x07[red]x[/red]"
        sealed_attributes(file)
    answer = command("show", path)
    assert answer.code == 0
    assert "\x1b" not in answer.out
    assert "[red]x[/red]" in answer.out


def test_nothing_is_pickled(reference, tmp_path, command, monkeypatch):
    """Neither on reading results nor on exporting a network."""
    def never(*_: object, **__: object) -> None:
        pytest.fail("pickle was used")

    command("export", reference.path.parent, "--cell", "main", "--seed", 3, "-o", tmp_path / "n.npz")
    expected = mcrace.open_results(reference.path).to_table()  # and all modules are imported
    monkeypatch.setattr(pickle, "loads", never)
    monkeypatch.setattr(pickle, "load", never)
    with np.load(tmp_path / "n.npz", allow_pickle=False) as found:
        assert {name: found[name].dtype.kind for name in found.files}["W_final"] == "f"
    assert mcrace.open_results(reference.path).to_table().equals(expected)
