"""The images of CIFAR-10 (Krizhevsky, 2009), from a local copy of its binary version; nothing is downloaded.

A record is 3,073 bytes: a label from 0 to 9, and 32 x 32 pixels, all red ones first, then green, then blue.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from mcrace.errors import StudyError
from mcrace.tasks.base import Pool, task
from mcrace.tasks.corruption import Image
from mcrace.tasks.from_file import FromFile, content_digest

RECORD = 3073
MAX_RECORDS = 1_000_000
BATCH = re.compile(r"(data_batch_\d{1,3}|test_batch)\.bin")
PICKLED = re.compile(r"data_batch_\d|test_batch|batches\.meta")
Batches = dict[str, bytes]


@task("cifar10")
class Cifar10(FromFile):
    """Two classes, or two groups of classes, of the 32 x 32 colour images of CIFAR-10, the second labelled +1.

    `path` is cifar-10-binary.tar.gz, or a folder that holds its *.bin files.  Members of an archive are read one by one;
    nothing is unpacked to the disk.  Inputs lie between 0 and 1; samples are drawn without replacement.
    """

    kind: Literal["cifar10"] = "cifar10"
    classes: tuple[tuple[int, ...], tuple[int, ...]] = Field(
        description="two of 0 to 9, as in [3, 5], or two groups, as in [[0, 1, 8, 9], [2, 3, 4, 5, 6, 7]]")
    batches: Literal["train", "test", "all"] = Field("train", description="which images: the data batches, the test batch")

    version: ClassVar[int] = 1
    unit: ClassVar[float] = 255.0

    @field_validator("classes", mode="before")
    @classmethod
    def _groups(cls, classes: Any) -> Any:
        """A class as a group of its own, and lists as tuples."""
        if not isinstance(classes, list | tuple):
            return classes
        return tuple(tuple(c) if isinstance(c, list) else (c,) if not isinstance(c, tuple) else c for c in classes)

    @field_validator("classes")
    @classmethod
    def _two_groups(cls, classes: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        every = [c for group in classes for c in group]
        if not all(classes):
            raise ValueError("a group of classes is empty")
        if lacking := [c for c in every if not 0 <= c <= 9]:
            raise ValueError(f"CIFAR-10 has classes 0 to 9, not {', '.join(map(str, lacking))}")
        if twice := sorted({c for c in every if every.count(c) > 1}):
            raise ValueError(f"class {twice[0]} comes twice")
        return tuple(sorted(classes[0])), tuple(sorted(classes[1]))

    def inputs(self) -> int:
        return RECORD - 1

    def image(self) -> Image:
        return Image(32, 32, channels=3, planes=True)

    def look(self) -> dict[str, Any]:
        return {"digest": self._read()[0]}

    def pool(self) -> Pool:
        digest, found = self._read()
        self.check_digest(digest)
        wanted = [data for name, data in sorted(found.items()) if self.batches in ("all", _part(name))]
        if not wanted:
            raise StudyError(f"task.batches: {self.path} has no {self.batches} batch; it has {', '.join(sorted(found))}")
        records = np.concatenate([np.frombuffer(data, np.uint8).reshape(-1, RECORD) for data in wanted])
        labels = records[:, 0]
        if lacking := [c for group in self.classes for c in group if c not in labels]:
            raise StudyError(f"task.classes: {self.path} has no image of class {', '.join(map(str, lacking))}")
        chosen = np.isin(labels, [c for group in self.classes for c in group])
        self.check_size(int(chosen.sum()), "these classes have {} images together")
        return {"X": records[chosen, 1:], "y": self.labels(np.isin(labels[chosen], self.classes[1]))}

    def _read(self) -> tuple[str, Batches]:
        """The digest of all batches that the archive or folder holds, and the batches."""
        path = Path(self.path)
        try:
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            stamps = [(file, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
            return _batches(path, tuple(stamps))
        except ValueError as error:
            raise StudyError(f"task.path: {path}: {error}") from None
        except OSError as error:
            raise StudyError(f"task.path: {path}: cannot be read: {error.strerror or error}") from None


def _part(name: str) -> str:
    return "test" if name.startswith("test") else "train"


@lru_cache(maxsize=1)
def _batches(path: Path, stamps: tuple[tuple[Path, int, int], ...]) -> tuple[str, Batches]:
    """Digest and batches of files as they were at a time; each mistake is a ValueError."""
    if not (path.is_file() or path.is_dir()):
        raise ValueError("is neither a file nor a folder")
    found: Batches = {}
    others: list[str] = []
    for name, data in _from_folder(path) if path.is_dir() else _from_archive(path):
        if data is None:
            others.append(name)
        elif name in found:
            raise ValueError(f"holds {name} twice")
        else:
            found[name] = data
    if not found and any(PICKLED.fullmatch(name) for name in others):
        raise ValueError("is the Python version of CIFAR-10, whose files are pickled; the binary version, "
                         "cifar-10-binary.tar.gz, is needed")
    if not found:
        raise ValueError("holds no batch of the binary version of CIFAR-10 (data_batch_1.bin, ..., test_batch.bin)")
    for name, data in found.items():
        _check_batch(name, data)
    numbers = sorted(int(name[11:-4]) for name in found if _part(name) == "train")
    if lacking := set(range(1, max(numbers, default=0))) - set(numbers):
        raise ValueError(f"data_batch_{min(lacking)}.bin is missing")
    parts = (np.frombuffer(part, np.uint8) for name in sorted(found) for part in (name.encode(), found[name]))
    return content_digest(*parts), found


def _check_batch(name: str, data: bytes) -> None:
    if not data or len(data) % RECORD:
        raise ValueError(f"{name} has {len(data):,} bytes, which is no whole number of records of {RECORD:,} bytes; "
                         "it is truncated, or not of the binary version of CIFAR-10")
    labels = np.frombuffer(data, np.uint8)[::RECORD]
    if labels.max() > 9:
        raise ValueError(f"{name} has the label {labels.max()} in record {labels.argmax()}; CIFAR-10 has 0 to 9")


def _from_folder(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Names with the bytes of batches; None for other files."""
    for file in path.iterdir():
        wanted = BATCH.fullmatch(file.name) and file.is_file()
        if wanted and file.stat().st_size > MAX_RECORDS * RECORD:
            raise ValueError(f"{file.name} has more than {MAX_RECORDS:,} records")
        yield file.name, file.read_bytes() if wanted else None


def _from_archive(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """The same of an archive, read from its start to its end.

    An archive that ends behind one of its files looks whole but for its end, and one that was compressed carries a checksum
    behind all of its bytes.
    """
    try:
        with tarfile.open(path, "r:*", errorlevel=2) as archive:
            for member in archive:
                name = member.name.rsplit("/", 1)[-1]
                if not (BATCH.fullmatch(name) and member.isreg()):
                    yield name, None
                    continue
                if member.size > MAX_RECORDS * RECORD:
                    raise ValueError(f"{name} has more than {MAX_RECORDS:,} records")
                stream = archive.extractfile(member)
                data = stream.read() if stream else b""
                if len(data) != member.size:
                    raise ValueError(f"is truncated, in {name}")
                yield name, data
            _check_end(archive)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"is truncated, or no tar archive: {error}") from None


def _check_end(archive: tarfile.TarFile) -> None:
    """Whether an archive ends as it should: with a block of zeros, and the right checksum if it is compressed."""
    file: Any = archive.fileobj
    if file.tell() == archive.offset:
        raise ValueError("is truncated: its end is missing")
    while file.read(1 << 20):
        pass
