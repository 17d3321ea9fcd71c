"""Shards over Dask: a bounded window of submissions, and workers that publish their shards themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from mcrace.errors import ShardError
from mcrace.launch.inline import Outcome
from mcrace.plan import Shard
from mcrace.worker import run_shard

if TYPE_CHECKING:
    from distributed import Client

THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
ATTEMPTS = 3  # of a shard whose worker dies
START_SECONDS = 120


@contextmanager
def local_cluster(workers: int) -> Iterator[Client]:
    """A scheduler in this process and one-thread workers beside it, gone at the end.

    Workers are programs of their own and not forks, so that an unguarded script may call this.
    """
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=0, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None,
                           silence_logs=50)
    command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--nworkers", str(workers),
               "--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--death-timeout", "60",
               "--host", "127.0.0.1", "--preload", "mcrace.worker"]
    quiet = {"DASK_LOGGING__DISTRIBUTED": "critical", "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    crew = subprocess.Popen(command, env={**os.environ, **THREADS, **quiet}, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        with Client(cluster, set_as_default=False) as client:
            try:
                client.wait_for_workers(workers, timeout=START_SECONDS)
            except TimeoutError:
                raise ShardError(f"the {workers} workers did not start within {START_SECONDS} seconds") from None
            yield client
    finally:
        crew.terminate()
        cluster.close(timeout=10)
        try:
            crew.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(crew.pid, 9)
            crew.wait()


def drive(client: Client, shards: Iterable[Shard], directory: str) -> Iterator[Outcome]:
    """Have a cluster compute shards; yields each with its receipt, or with what went wrong.

    At most a few more shards than workers are submitted at a time, so that memory stays flat.  A shard whose worker
    dies is tried again alone a few times; the others go on.
    """
    from distributed import KilledWorker, as_completed

    waiting = iter(shards)
    futures = {}
    attempts: dict[str, int] = {}
    window = as_completed(loop=client.loop, with_results=True, raise_errors=False)

    def submit(shard: Shard) -> None:
        future = client.submit(run_shard, shard, directory, pure=False, key=f"{shard.identity[:12]}-{shard.first}-"
                               f"{shard.stop}-{attempts.get(shard.name, 0)}")
        futures[future] = shard
        window.add(future)

    workers = len(client.scheduler_info(n_workers=-1)["workers"])
    for shard in islice(waiting, 2 * workers + 2):
        submit(shard)
    for future, result in window:
        shard = futures.pop(future)
        if future.status == "finished":
            yield shard, result, ""
        else:
            error = result[1] if isinstance(result, tuple) else result
            attempts[shard.name] = attempts.get(shard.name, 0) + 1
            if isinstance(error, KilledWorker) and attempts[shard.name] < ATTEMPTS:
                submit(shard)
                continue
            yield shard, None, f"{type(error).__name__}: {error}"
        for shard in islice(waiting, 1):
            submit(shard)
