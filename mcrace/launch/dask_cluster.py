"""Shards over Dask: a bounded window of submissions, and workers that publish their shards themselves."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from mcrace.errors import ShardError
from mcrace.launch.inline import Outcome
from mcrace.plan import Shard
from mcrace.worker import Receipt, run_shard

if TYPE_CHECKING:
    from distributed import Client, Future

THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
ATTEMPTS = 2  # alone, of a shard whose worker died
START_SECONDS, STOP_SECONDS = 120, 3


@contextmanager
def local_cluster(workers: int) -> Iterator[Client]:
    """A scheduler in this process and one-thread workers beside it, gone at the end.

    Workers are programs of their own and not forks, so that an unguarded script may call this.
    """
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it logs every connection that its own end closes
    options = {"allowed_failures": 0, "dashboard_address": "127.0.0.1:0"}  # any port: several runs on one machine
    cluster = LocalCluster(n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None,
                           silence_logs=50, scheduler_kwargs=options)
    command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--nworkers", str(workers),
               "--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--death-timeout", "60",
               "--host", "127.0.0.1", "--preload", "mcrace.worker"]
    quiet = {"DASK_LOGGING__DISTRIBUTED": "critical", "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    crew = subprocess.Popen(command, env={**os.environ, **THREADS, **quiet}, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, start_new_session=True)
    finished = False
    try:
        with Client(cluster, set_as_default=False) as client:
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
        try:
            crew.wait(0 if finished else STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(crew.pid, signal.SIGKILL)
            crew.wait()


def drive(client: Client, shards: Iterable[Shard], directory: str) -> Iterator[Outcome]:
    """Have a cluster compute shards; yields each with its receipt, or with what went wrong.

    At most a few more shards than workers are submitted at a time, so that memory stays flat.  Where a worker dies, its
    shards are tried again at the end, each alone: only the one to blame fails.
    """
    from distributed import KilledWorker, as_completed

    waiting = iter(shards)
    futures = {}
    suspects = []
    window = as_completed(loop=client.loop, with_results=True, raise_errors=False)

    def submit(shard: Shard, attempt: int = 0) -> None:
        key = f"{shard.identity[:12]}-{shard.first}-{shard.stop}-{attempt}"
        future = client.submit(run_shard, shard, directory, pure=False, key=key)
        futures[future] = shard
        window.add(future)

    workers = len(client.scheduler_info(n_workers=-1)["workers"])
    for shard in islice(waiting, 2 * workers + 2):
        submit(shard)
    for future, result in window:
        shard = futures.pop(future)
        error = _error(future, result)
        if isinstance(error, KilledWorker):
            suspects.append(shard)
        else:
            yield _outcome(shard, result, error)
        for shard in islice(waiting, 1):
            submit(shard)
    for shard in suspects:
        for attempt in range(1, ATTEMPTS + 1):
            submit(shard, attempt)
            future, result = next(window)
            error = _error(future, result)
            if not isinstance(error, KilledWorker):
                break
        yield _outcome(shard, result, error)


def _error(future: Future, result: object) -> BaseException | None:
    """What went wrong with a future, if anything did."""
    if future.status == "finished":
        return None
    return result[1] if isinstance(result, tuple) else result  # type: ignore[return-value]


def _outcome(shard: Shard, receipt: Receipt, error: BaseException | None) -> Outcome:
    return (shard, receipt, "") if error is None else (shard, None, f"{type(error).__name__}: {error}")
