"""How everything hot is compiled: the flags in one place, and a cache that cannot go stale or stay damaged.

No fast-math flag is set anywhere: a NaN stays a NaN, and no sum is reordered.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import binding
from numba.core import caching
from numba.core.registry import CPUDispatcher

HERE = Path(__file__).parent
# Of what compiled functions alone call.  The wrappers for other callers are a fifth of all compiling.  References are not
# counted, with an atomic operation each: the caller holds the arrays, so that no array may be handed back to `compiled`.
INNER: dict[str, Any] = {"no_cfunc_wrapper": True, "no_cpython_wrapper": True, "_nrt": False}
DIGEST_BYTES = hashlib.sha256().digest_size


class _Clock(threading.local):
    """What this thread has spent in compiled code."""

    seconds = 0.0


_clock = _Clock()


def seconds_in_compiled_code() -> float:
    """How long this thread has been in compiled code; what is compiled at the time of the call counts as well."""
    return _clock.seconds


class _Clocked(CPUDispatcher):
    """A compiled function that counts the time it takes, where Python calls it."""

    def __call__(self, *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return super().__call__(*arguments)
        finally:
            _clock.seconds += time.perf_counter() - began


def compiled(function: Callable) -> Any:
    """Compile for arrays; releases the interpreter lock, and is cached on disk."""
    dispatcher = _cached(function, no_cfunc_wrapper=True)
    dispatcher.__class__ = _Clocked
    return dispatcher


def inner(function: Callable) -> Any:
    """As `compiled`, to be called by compiled functions alone."""
    return _cached(function, **INNER)


def _cached(function: Callable, **flags: Any) -> Any:
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy", boundscheck=False, **flags)(function)
    dispatcher._cache = _Cache(function)
    return dispatcher


@cache
def cache_directory() -> Path:
    """Where compiled code is kept: by user, processor, and the text of all kernels."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in [Path(__file__), *sorted((HERE / "kernels").glob("*.py"))]:
        digest.update(path.name.encode() + path.read_bytes())
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    processor = os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()
    name = f"{processor}-{digest.hexdigest()[:16]}"
    candidates = [Path(base) / "mcrace" / name, Path(tempfile.gettempdir()) / f"mcrace-{os.getuid()}" / name]
    for path in candidates:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.stat().st_uid == os.getuid() and os.access(path, os.W_OK):
                return path
        except OSError:
            continue
    return Path(tempfile.mkdtemp(prefix="mcrace-"))


class _Locator(caching._SourceFileBackedLocatorMixin, caching._CacheLocator):
    """Puts a function's code into `cache_directory`; the function's own file is its stamp of freshness."""

    def __init__(self, function: Callable, file: str) -> None:
        self._py_file = file
        self._lineno = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_directory())

    def get_source_stamp(self) -> str:
        return hashlib.sha256(Path(self._py_file).read_bytes()).hexdigest()

    def get_disambiguator(self) -> str:
        return hashlib.sha256(f"{self._py_file}:{self._lineno}".encode()).hexdigest()[:16]

    @classmethod
    def from_function(cls, function: Callable, file: str) -> _Locator:
        return cls(function, file)


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]


class _Files(caching.IndexDataCacheFile):
    """Cache files with a digest at their end (which pickle does not read), and with names by what was compiled.

    Numba numbers them: two processes that compile a function for other arguments at the same time may take one number, and
    what the index then promises is not what the file holds.
    """

    def save(self, key: object, data: object) -> None:
        name = self._data_name(int(hashlib.sha256(repr(key).encode()).hexdigest()[:15], 16))
        self._save_data(name, data)
        self._save_index({**self._load_index(), key: name})

    def _dump(self, obj: object) -> bytes:
        data = super()._dump(obj)
        return data + hashlib.sha256(data).digest()

    def _load_data(self, name: str) -> object:
        data = Path(self._data_path(name)).read_bytes()
        if hashlib.sha256(data[:-DIGEST_BYTES]).digest() != data[-DIGEST_BYTES:]:
            raise ValueError(f"{name} is damaged")
        return pickle.loads(data)


class _Cache(caching.FunctionCache):
    """Numba's cache of one function, which throws damaged files away and compiles anew."""

    _impl_class = _Implementation

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        locator = self._impl.locator
        self._cache_file = _Files(locator.get_cache_path(), self._impl.filename_base, locator.get_source_stamp())

    def load_overload(self, sig: object, target_context: object) -> object:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever a damaged pickle raises: compiling anew is always right
            self.flush()
            return None

    def save_overload(self, sig: object, data: object) -> None:
        try:
            super().save_overload(sig, data)
        except OSError:  # a full or read-only disk costs time, not the run
            pass
        except Exception:
            self.flush()
