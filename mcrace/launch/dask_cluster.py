"""Shards over Dask: a bounded window of submissions, and workers that publish their shards themselves."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mcrace.errors import ShardError, StudyError, VersionError
from mcrace.launch.inline import Outcome
from mcrace.plan import Shard
from mcrace.worker import Receipt, run_shard

if TYPE_CHECKING:
    from distributed import Client, Future

THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
# Dask has workers hand all memory back at once, and glibc then asks for it anew with every array of some size, page by page.
MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(128 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
# Dask looks at its workers' stacks every 10 ms and at itself every 20: 5 % of their time, where all cores have a worker.
SELDOM = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s",
          "distributed.admin.system-monitor.interval": "10s"}
SELDOM_THERE = {"DASK_" + key.upper().replace(".", "__").replace("-", "_"): str(value) for key, value in SELDOM.items()}
ATTEMPTS = 2  # alone, of a shard whose worker died
START_SECONDS, STOP_SECONDS = 120, 3
PATIENCE_SECONDS: float = 600.0  # without any worker
LOCAL_PATIENCE_SECONDS: float = 60.0
LOOK_SECONDS = 1.0  # between two looks at who works
CONNECT_SECONDS = 60.0


def cores() -> int:
    """The cores that this process may use: in a batch job often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def local_cluster(workers: int, meanwhile: Callable[[], None]) -> Iterator[Client]:
    """A scheduler in this process and one-thread workers beside it, gone at the end.

    Workers are programs of their own and not forks, so that an unguarded script may call this.  They take seconds to start:
    `meanwhile` is what this process has to do before they get work.
    """
    import dask
    from distributed import Client, LocalCluster

    _hush()
    options = {"allowed_failures": 0, "dashboard_address": "127.0.0.1:0"}  # any port: several runs on one machine
    with dask.config.set(SELDOM):
        cluster = LocalCluster(n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None,
                               silence_logs=50, scheduler_kwargs=options)
    command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--nworkers", str(workers),
               "--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--death-timeout", "60",
               "--host", "127.0.0.1", "--preload", "mcrace.worker"]
    quiet = {"DASK_LOGGING__DISTRIBUTED": "critical", "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    environment = {**MEMORY, **SELDOM_THERE, **os.environ, **THREADS, **quiet}
    crew = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            stdin=subprocess.DEVNULL, start_new_session=True)
    finished = False
    try:
        with Client(cluster, set_as_default=False) as client:
            meanwhile()
            try:
                client.wait_for_workers(workers, timeout=START_SECONDS)
            except TimeoutError:
                raise ShardError(f"the {workers} workers did not start within {START_SECONDS} seconds") from None
            yield client
            finished = True
    finally:
        if not finished:
            crew.terminate()  # in order, so that no half-written file stays
        cluster.close(timeout=10)
        with suppress(subprocess.TimeoutExpired):
            crew.wait(0 if finished else STOP_SECONDS)
        with suppress(ProcessLookupError):  # also where the crew is dead and workers of it are left
            os.killpg(crew.pid, signal.SIGKILL)
        crew.wait()


@contextmanager
def connected(address: str | None, file: Path | None) -> Iterator[Client]:
    """A client of a scheduler that runs elsewhere, by its address or its scheduler file.

    Credentials come from Dask's own configuration, as in ``DASK_DISTRIBUTED__COMM__TLS__CA_FILE``.

    Raises
    ------
    StudyError
        If no scheduler answers there.
    """
    from distributed import Client

    _hush()
    where = address or _address(Path(file or ""))
    try:
        client = Client(where, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ImportError, TypeError, ValueError, RuntimeError) as error:
        raise StudyError(f"no Dask scheduler answers at {where}: {error}") from None
    with client:
        yield client


def _hush() -> None:
    """Dask logs every connection that its own end closes, and every worker that is lost."""
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _address(file: Path) -> str:
    """The address in a scheduler file, which may still have to appear."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return str(json.loads(file.read_text())["address"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            if time.monotonic() > deadline:
                raise StudyError(f"{file}: no scheduler has written its address there: {error}") from None
            time.sleep(0.1)


def drive(client: Client, shards: Iterable[Shard], directory: str, patience: float = PATIENCE_SECONDS) -> Iterator[Outcome]:
    """Have a cluster compute shards; yields each with its receipt, or with what went wrong.

    At most a few more shards than workers are submitted at a time, so that memory stays flat.  Where a worker dies, its
    shards are tried again at the end, each alone: only the one to blame fails.

    Raises
    ------
    ShardError
        If the scheduler is lost, or there is no worker for so many seconds of patience.
    VersionError
        If a worker has other versions than the plan.
    """
    from distributed import KilledWorker

    waiting = iter(shards)
    suspects = []
    window = _Window(client, directory, patience)
    while True:
        for shard in islice(waiting, window.room()):
            window.submit(shard)
        if not window.futures:
            break
        shard, receipt, error = window.next()
        if isinstance(error, KilledWorker):
            suspects.append(shard)
        else:
            yield _outcome(shard, receipt, error)
    for shard in suspects:
        for attempt in range(1, ATTEMPTS + 1):
            window.submit(shard, attempt)
            _, receipt, error = window.next()
            if not isinstance(error, KilledWorker):
                break
        yield _outcome(shard, receipt, error)


class _Window:
    """The shards under way, and a look now and then at who works on them."""

    def __init__(self, client: Client, directory: str, patience: float) -> None:
        self.client, self.directory, self.patience = client, directory, patience
        self.futures: dict[str, tuple[Shard, Future]] = {}
        self.done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.workers = 0
        self.seen = time.monotonic()
        self.look()

    def look(self) -> None:
        """Count the workers, which may come and go; give up where there are none for too long."""
        self.looked = time.monotonic()
        try:
            self.workers = len(self.client.scheduler_info(n_workers=-1)["workers"])
        except (OSError, TimeoutError):
            self.workers = 0
        now = time.monotonic()
        if self.workers:
            self.seen = now
        elif now - self.seen > self.patience:
            raise ShardError(f"there has been no worker for {now - self.seen:.0f} seconds; run again to go on from here")

    def room(self) -> int:
        """How many more shards may be submitted."""
        return max(0, 2 * self.workers + 2 - len(self.futures))

    def submit(self, shard: Shard, attempt: int = 0) -> None:
        """Send a shard."""
        key = f"{shard.cell}-{shard.identity[:12]}-{shard.first}-{shard.stop}-{attempt}"  # cells may be alike
        future = self.client.submit(run_shard, shard, self.directory, pure=False, key=key)
        self.futures[key] = shard, future
        future.add_done_callback(self.done.put)

    def next(self) -> tuple[Shard, Receipt | None, BaseException | None]:
        """Wait for a shard; what came of it."""
        while True:
            if time.monotonic() - self.looked > LOOK_SECONDS:
                self.look()
            with suppress(queue.Empty, TimeoutError):
                future = self.done.get(timeout=LOOK_SECONDS)
                receipt, error = self._result(future)
                return self.futures.pop(str(future.key))[0], receipt, error

    def _result(self, future: Future) -> tuple[Receipt | None, BaseException | None]:
        """A future's receipt or error; TimeoutError where the receipt was lost with its worker, and is asked for again.

        The scheduler then has the shard done once more, by a worker that finds it on the disk.
        """
        if future.status == "cancelled":
            raise ShardError("the connection with the Dask scheduler was lost; run again to go on from here")
        if future.status == "error":
            error = future.exception()
            if isinstance(error, VersionError):
                raise error
            return None, error
        try:
            return future.result(timeout=LOOK_SECONDS), None
        except TimeoutError:
            future.add_done_callback(self.done.put)
            raise
        except Exception:
            if future.status in ("cancelled", "error"):  # meanwhile
                return self._result(future)
            raise


def _outcome(shard: Shard, receipt: Receipt | None, error: BaseException | None) -> Outcome:
    return (shard, receipt, "") if error is None else (shard, None, f"{type(error).__name__}: {error}")
